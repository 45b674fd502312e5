"""The command line: one command per stage of dvc.yaml, and the few commands that are no stages.

A command imports what it needs when it runs, so that `--help` answers at once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.engines import LOCAL_ENGINE, EngineName
from pipeline.engines.command import exit_when_parent_exits
from pipeline.environment import prepare_process
from pipeline.errors import RunError, UserError, machine_error_message

if TYPE_CHECKING:
    from pipeline.params import Params

INTERRUPTED = 130
"""Exit code that typer gives to Ctrl-C."""
SHOWN_ANSWERS = 10
"""Answers that `predict --permute` prints for one prompt."""

app = typer.Typer(
    help="Train small transformers, with and without positional encoding, and measure how they know the order of their "
    "input. Each stage in dvc.yaml is a command; `repro` runs the stages whose inputs have changed.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
TaskName = Annotated[str, typer.Argument(help="Name of a task in params.yaml.")]
AblationName = Annotated[str, typer.Argument(help="Name of an ablation in params.yaml.")]
Engine = Annotated[EngineName, typer.Option(help="Where jobs run: on this machine, on Ray or on SLURM.")]
JobsPerGpu = Annotated[int, typer.Option(min=1, help="Number of jobs that share one GPU.")]


@app.command()
def generate(task: TaskName) -> None:
    """Generate the dataset of one task.

    Reads params.yaml and writes data/<task>/: one table per split, and their digests.
    """
    params = _read_params()
    params.task(task)
    from pipeline.stages import generate

    generate.run(params, task)


@app.command()
def train(ablation: AblationName) -> None:
    """Train all seeds of one ablation.

    Reads data/<task>/ and writes models/<ablation>/: the weights of each seed, the learning curves and the settings. A
    training that was killed continues from its last checkpoint.
    """
    params = _read_params()
    params.ablation(ablation)
    from pipeline.stages import train

    train.run(params, ablation)


@app.command()
def evaluate(ablation: AblationName) -> None:
    """Score all seeds of one ablation on the test examples.

    Reads data/<task>/ and models/<ablation>/ and writes reports/evaluation/<ablation>/.
    """
    params = _read_params()
    params.ablation(ablation)
    from pipeline.stages import evaluate

    evaluate.run(params, ablation)


@app.command()
def analyze(ablation: AblationName) -> None:
    """Apply all measurements to one ablation.

    Reads data/<task>/ and models/<ablation>/ and writes reports/analysis/<ablation>/, one table per measurement. Every
    seed is measured before and after training; some measurements are repeated along training.
    """
    params = _read_params()
    params.ablation(ablation)
    from pipeline.stages import analyze

    analyze.run(params, ablation)


@app.command()
def report() -> None:
    """Build the report from all trained ablations.

    Reads models/, reports/evaluation/ and reports/analysis/ and writes the tables, the figures, reports/summary.md and
    reports/index.html.
    """
    from pipeline.stages import report

    report.run(_read_params())


@app.command()
def search(
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of workers (default: as many as fit the GPUs, or the cores).")
    ] = None,
    engine: Engine = LOCAL_ENGINE,
    jobs_per_gpu: JobsPerGpu = 1,
    worker: Annotated[bool, typer.Option("--worker", help="Join a running search as one more worker.")] = False,
    promote: Annotated[
        int, typer.Option(min=0, help="Run no trial; add the best N configurations to params.yaml as ablations.")
    ] = 0,
    confirm: Annotated[int | None, typer.Option(hidden=True, help="Train this trial again with fresh seeds.")] = None,
) -> None:
    """Search for the smallest models that learn the task.

    Optuna tries configurations from `search.space` in params.yaml and writes reports/search/. A search that was stopped
    continues where it stopped.
    """
    params = _read_params()
    from pipeline.stages import search

    if promote:
        search.promote(params, promote)
    elif confirm is not None:
        search.run_confirmation(params, confirm)
    elif worker:
        search.run_worker(params)
    else:
        search.run(params, workers=workers, engine=engine, gpus=_gpu_share(jobs_per_gpu))


@app.command()
def repro(
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Number of jobs at once (default: as many as fit the GPUs, or the cores).")
    ] = None,
    engine: Engine = LOCAL_ENGINE,
    jobs_per_gpu: JobsPerGpu = 1,
) -> None:
    """Update the report: run every stage whose inputs have changed.

    Several ablations run at once. The results are the same bytes that `dvc repro report` writes. A run that was stopped
    continues where it stopped.
    """
    params = _read_params()
    from pipeline.repro import driver

    driver.update_report(params, engine=engine, max_jobs=jobs, gpus_per_job=_gpu_share(jobs_per_gpu))


@app.command(hidden=True)
def job(name: str, stages: list[str]) -> None:
    """Run stages of one ablation, given by their names in dvc.yaml. `repro` starts this command."""
    params = _read_params()
    from pipeline.repro import job

    job.run_stages(params, name, stages)


@app.command()
def predict(
    ablation: Annotated[
        str,
        typer.Argument(help="Name or folder of a trained ablation. Three come with the project, such as nope-full."),
    ],
    prompts: Annotated[list[str], typer.Argument(help="Texts to continue, such as 123+456=.")],
    seed: Annotated[int | None, typer.Option(help="Seed of the model to use (default: the first).")] = None,
    permute: Annotated[
        bool, typer.Option("--permute", help="Also try every order of the tokens before the last one.")
    ] = False,
) -> None:
    """Print a trained model's answers to prompts."""
    from pipeline.api import load

    model = load(ablation, seed=seed)
    width = max(map(len, prompts))
    for prompt, answer in zip(prompts, model.predict(prompts), strict=True):
        print(f"{model.ablation.name}  {prompt:<{width}} -> {answer.text}  (p = {answer.probability:.2g})")
        if permute:
            _print_all_orders(model.predict_all_orders(prompt))


def _print_all_orders(answers: Any) -> None:
    """Print a table of `TrainedModel.predict_all_orders`."""
    total = answers["orders"].sum()
    print(f"  orders of the tokens before the last: {total:,}; different answers: {len(answers):,}")
    for text, orders, example in answers.head(SHOWN_ANSWERS).to_numpy().tolist():
        print(f"  {text}  {orders / total:.1%}, such as {example}")
    if len(answers) > SHOWN_ANSWERS:
        print(f"  and {len(answers) - SHOWN_ANSWERS:,} more")


@app.command()
def track() -> None:
    """Add the runs that are missing in MLflow.

    Reads models/ and reports/evaluation/.
    """
    from pipeline.stages import track

    track.run(_read_params())


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port of the web server.")] = 5000) -> None:
    """Open MLflow's pages in a browser.

    Prints their address, and serves them until Ctrl-C.
    """
    params = _read_params()
    from pipeline.tracking.ui import serve

    serve(params.tracking, port)


@app.command()
def check(
    ablation: Annotated[str, typer.Argument(help="Print all settings of this ablation.")] = "",
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print every setting as YAML, defaults included.")
    ] = False,
) -> None:
    """Check params.yaml and print a summary, or all settings."""
    params = _read_params()
    if ablation or resolved:
        from ruamel.yaml import YAML

        yaml = YAML()
        yaml.width = 120
        yaml.default_flow_style = None  # innermost tables and lists on one line
        yaml.dump((params.ablation(ablation) if ablation else params).resolved(), sys.stdout)
        return
    ablations = params.all_ablations()
    runs = sum(len(ablation.training.seeds) for ablation in ablations)
    print(f"params.yaml: {len(ablations)} ablations, {runs} runs, tasks {', '.join(params.tasks)}")


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Name of the study, and of its folder in studies/.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Text or CSV file to study: how much does token order help to predict it?"),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Column of the CSV file that holds the time series.")] = None,
) -> None:
    """Create a further experiment in studies/<name>/.

    It gets a copy of params.yaml to edit, and reports of its own. With --data it gets a copy of your file and an
    experiment about it instead. If it exists, only its dvc.yaml is updated. `make study NAME=<name>` runs it.
    """
    from pipeline import study

    folder = study.create(name, data=data, column=column)
    print(f"{folder}: edit params.yaml, write README.md, then run `make study NAME={name}`")


@app.command()
def preset(
    name: Annotated[str, typer.Argument(help="smoke (a short test), own (order in a text) or published (for a GPU).")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite params.yaml even if it was edited.")] = False,
) -> None:
    """Replace params.yaml by a ready-made experiment."""
    from pipeline import study

    study.install_preset(name, force=force)
    print(f"params.yaml is now the preset {name!r}; run `python -m pipeline repro`")
    print("back to the default experiment: `git checkout params.yaml`")


def main() -> None:
    """Run the command line in a process of its own."""
    prepare_process()
    started_by_engine = exit_when_parent_exits()
    code = run(sys.argv[1:])
    if code == INTERRUPTED and not started_by_engine:  # the process that started the engine prints it for all
        print("interrupted: nothing half-written; what finished is kept", file=sys.stderr)
    raise SystemExit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code: 0 done, 1 failed while running, 2 refused input.

    What the user or the machine can mend is printed as one line on stderr; every other exception is raised.
    """
    try:
        code = app(list(arguments) or ["--help"], prog_name="python -m pipeline", standalone_mode=False)
    except typer.TyperException as error:  # not all its messages show what was given
        print(f"error: {error.format_message()} (given: {' '.join(arguments)})", file=sys.stderr)
        return 2
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, MemoryError, RuntimeError) as error:
        message = machine_error_message(error)
        if not message:
            raise
        print(f"error: {' '.join(arguments[:2])}: {message}", file=sys.stderr)
        return 1
    return code or 0


def _gpu_share(jobs_per_gpu: int) -> float | None:
    """The part of a GPU that each job takes; None: a whole one, where there is one."""
    return None if jobs_per_gpu == 1 else 1 / jobs_per_gpu


def _read_params() -> "Params":
    from pipeline.tasks.registry import read_params

    return read_params()
