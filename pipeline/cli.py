"""The command line: one command per stage of dvc.yaml, and a few other commands.

Each command imports its modules when it runs, so that `--help` answers at once.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.addresses import hide_password
from pipeline.engines import LOCAL_ENGINE, EngineName
from pipeline.engines.command import exit_when_parent_exits
from pipeline.environment import prepare_process
from pipeline.errors import RunError, UserError, machine_error_message

if TYPE_CHECKING:
    from pipeline.params import Params

INTERRUPTED_EXIT_CODE = 130
"""Exit code of a command that was interrupted by Ctrl-C."""

app = typer.Typer(
    help="Train small transformers, with and without positional encoding, and measure how they recognise the order of "
    "their input tokens. An ablation is a variant of model and training, defined in params.yaml. Each stage in "
    "dvc.yaml is a command; `repro` runs all stages whose inputs have changed.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
TaskName = Annotated[str, typer.Argument(help="Name of a task in params.yaml.")]
AblationName = Annotated[str, typer.Argument(help="Name of an ablation in params.yaml.")]
Engine = Annotated[EngineName, typer.Option(help="Where processes run: on this machine, on a Ray cluster or on SLURM.")]
JobsPerGpu = Annotated[int, typer.Option(min=1, help="Number of processes that share one GPU.")]
PROCESS_COUNT_HELP = "Number of parallel processes (default: as many as fit on the GPUs; without, one per CPU core)."
ProcessCount = Annotated[int | None, typer.Option(min=1, help=PROCESS_COUNT_HELP)]


@app.command()
def generate(task: TaskName) -> None:
    """Generate the dataset of one task.

    Reads params.yaml and writes data/<task>/: one table per split, and the checksums of the tables.
    """
    _run_stage("generate", task)


@app.command()
def train(ablation: AblationName) -> None:
    """Train all seeds of one ablation.

    Reads data/<task>/ and writes models/<ablation>/: the weights of each seed, the learning curves and the settings. A
    training that was killed continues from its last checkpoint.
    """
    _run_stage("train", ablation)


@app.command()
def evaluate(ablation: AblationName) -> None:
    """Score all seeds of one ablation on the test examples.

    Reads data/<task>/ and models/<ablation>/ and writes reports/evaluation/<ablation>/.
    """
    _run_stage("evaluate", ablation)


@app.command()
def analyze(ablation: AblationName) -> None:
    """Apply all measurements to one ablation.

    Reads data/<task>/ and models/<ablation>/ and writes reports/analysis/<ablation>/, one table per measurement. Every
    seed is measured before and after training; some measurements are repeated along training.
    """
    _run_stage("analyze", ablation)


@app.command()
def collect() -> None:
    """Gather the results of all ablations in a few tables.

    Reads models/, reports/evaluation/ and reports/analysis/ and writes reports/runs.csv, learning_curves.csv,
    symmetry.csv (does the prediction depend on token order?) and measurements.csv.bz2.
    """
    from pipeline.stages import collect

    collect.run(_read_params())


@app.command()
def report() -> None:
    """Build the report from the tables of `collect`.

    Reads these tables and answers.md.j2, a text by people that refers to their numbers. Writes reports/estimates.csv,
    the figures, reports/summary.md, details.md and index.html.
    """
    from pipeline.stages import report

    report.run(_read_params())


@app.command()
def documents() -> None:
    """Write README.md and other documents from their templates.

    In a template (README.md.j2, docs/*.md.j2, studies/*/README.md.j2) every number of a result refers to a row of an
    estimates.csv.
    """
    from pipeline.stages import documents

    documents.run()


@app.command()
def search(
    workers: ProcessCount = None,
    engine: Engine = LOCAL_ENGINE,
    jobs_per_gpu: JobsPerGpu = 1,
    worker: Annotated[bool, typer.Option("--worker", help="Join a running search until it is complete.")] = False,
) -> None:
    """Search with Optuna for the smallest models that learn one task.

    Section `search` of params.yaml names the task and lists the settings to try. A trial trains a model with some of
    these settings, with more seeds until it is decided whether it converges. Writes reports/search/. After a stop, the
    same command continues the search.
    """
    params = _read_params()
    from pipeline.stages import search

    if worker:
        search.run_worker(params)
    else:
        search.run_search(params, worker_count=workers, engine=engine, gpus_per_worker=1 / jobs_per_gpu)


@app.command()
def repro(jobs: ProcessCount = None, engine: Engine = LOCAL_ENGINE, jobs_per_gpu: JobsPerGpu = 1) -> None:
    """Run all stages whose inputs have changed.

    The stages are generate, train, evaluate, analyze, collect and report, as for `dvc repro report`, but several
    ablations are trained at the same time. After a stop, the same command continues.
    """
    from pipeline.repro import driver

    driver.update_report(_read_params(), engine=engine, max_jobs=jobs, gpus_per_job=1 / jobs_per_gpu)


@app.command(hidden=True)
def job(name: str, stages: list[str]) -> None:
    """Run stages of one ablation, given by their names in dvc.yaml. (Used by `repro`.)"""
    from pipeline.repro import job

    job.run_stages(_read_params(), name, stages)


@app.command()
def predict(
    ablation: Annotated[
        str,
        typer.Argument(
            help="Name or folder of a trained ablation. Three come with the project, such as nope-full (no positional "
            "encoding, full attention)."
        ),
    ],
    prompts: Annotated[list[str], typer.Argument(help="Texts to continue, such as 123+456=.")],
    seed: Annotated[int | None, typer.Option(help="Seed of the model to use (default: the first).")] = None,
    permute: Annotated[
        bool, typer.Option("--permute", help="Also reorder each prompt in all possible ways (the last token stays).")
    ] = False,
) -> None:
    """Print a trained model's answers to prompts."""
    from pipeline.api import load

    model = load(ablation, seed=seed)
    width = max(map(len, prompts))
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        answers_to_prompts = model.predict(prompts)
    for warning in raised:
        print(f"warning: {warning.message}", file=sys.stderr)
    for prompt, answer in zip(prompts, answers_to_prompts, strict=True):
        print(f"{model.ablation.name}  {prompt:<{width}} -> {answer.text}  (p = {answer.probability:.2g})")
        if permute:
            answers = model.predict_all_orders(prompt)
            total, hidden = answers["orders"].sum(), len(answers) - 10
            print(f"  orders of the tokens before the last: {total:,}; different answers: {len(answers):,}")
            for text, orders, example in answers.head(10).to_numpy().tolist():
                print(f"  {text}  {orders / total:.1%}, such as {example}")
            if hidden > 0:
                print(f"  and {hidden:,} more")


@app.command()
def track() -> None:
    """Write to MLflow the trained ablations that are missing there.

    Reads models/ and reports/evaluation/. Useful if MLflow was not reachable during training.
    """
    from pipeline.stages import track

    track.run(_read_params())


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port of the web server.")] = 5000) -> None:
    """Start MLflow's web interface, which shows all runs.

    Prints the address, and opens it in a browser if this machine has a screen. Ctrl-C stops the web server.
    """
    from pipeline.tracking.ui import serve_pages

    serve_pages(_read_params().tracking, port)


@app.command()
def check(
    ablation: Annotated[str, typer.Argument(help="Print all settings of this ablation.")] = "",
    resolved: Annotated[bool, typer.Option("--resolved", help="Print all settings, including defaults.")] = False,
) -> None:
    """Check params.yaml and print a summary, or all settings."""
    params = _read_params()
    if ablation or resolved:
        from ruamel.yaml import YAML

        yaml = YAML()
        yaml.width = 120
        yaml.default_flow_style = None  # innermost tables and lists on one line
        settings = (params.ablation(ablation) if ablation else params).resolved_settings()
        yaml.dump(settings, sys.stdout, transform=hide_password)
        return
    ablations = params.all_ablations()
    runs = sum(len(ablation.training.seeds) for ablation in ablations)
    print(f"params.yaml: {len(ablations)} ablations, {runs} runs, tasks {', '.join(params.tasks)}")


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Name of the study, and of its folder in studies/.")],
    data: Annotated[
        Path | None, typer.Option(help="Text or table of yours: how much does token order help to predict it?")
    ] = None,
    column: Annotated[str | None, typer.Option(help="Column of the table that holds the time series.")] = None,
) -> None:
    """Create another experiment in the folder studies/<name>/.

    The folder gets a copy of params.yaml to edit. With --data it gets a copy of your file instead (a table as plain
    CSV), and a params.yaml that studies this file. `make study NAME=<name>` runs the experiment; its reports are
    written to the same folder. If the folder exists, only its dvc.yaml is updated.
    """
    from pipeline import study

    folder = study.create_study(name, data=data, column=column)
    print(f"{folder}: edit params.yaml, write README.md, then run `make study NAME={name}`")


@app.command()
def preset(
    name: Annotated[str, typer.Argument(help="smoke, own or published.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite params.yaml even if it was edited.")] = False,
) -> None:
    """Replace params.yaml by a ready-made experiment.

    `smoke` is a quick test. `own` measures how much token order helps to predict numpy's documentation (for your own
    text see `study --data`). `published` repeats the paper's published runs, and needs a GPU.
    """
    from pipeline import study

    study.install_preset(name, force=force)
    print(f"params.yaml is now the preset {name!r}; run `python -m pipeline repro`")
    print("back to the default experiment: `git checkout params.yaml`")


def main() -> None:
    """Run the command of `sys.argv`, and exit with its exit code."""
    prepare_process()
    started_by_engine = exit_when_parent_exits()
    code = run_command(sys.argv[1:])
    if code == INTERRUPTED_EXIT_CODE and not started_by_engine:  # the process that started the engine prints it for all
        print("interrupted: nothing half-written; what finished is kept", file=sys.stderr)
    raise SystemExit(code)


def run_command(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code: 0 for success, 1 for a failure while running, 2 for invalid input.

    Errors of the user or of the machine are printed as one line on stderr; other exceptions are raised.
    """
    try:
        return app(list(arguments) or ["--help"], prog_name="python -m pipeline", standalone_mode=False) or 0
    except typer.TyperException as error:  # not all its messages show what was given
        code, message = 2, f"{error.format_message()} (given: {' '.join(arguments)})"
    except (UserError, RunError) as error:
        code, message = error.exit_code, str(error)
    except (OSError, MemoryError, RuntimeError) as error:
        if not (reason := machine_error_message(error)):
            raise
        code, message = 1, f"{' '.join(arguments[:2])}: {reason}"
    print(f"error: {hide_password(message)}", file=sys.stderr)
    return code


def _run_stage(stage: str, name: str) -> None:
    """Run a stage for an ablation (or a task) of `params.yaml`; a wrong name is reported before the slow imports."""
    params = _read_params()
    find_name = params.task if stage == "generate" else params.ablation
    find_name(name)
    import_module(f"pipeline.stages.{stage}").run(params, name)


def _read_params() -> "Params":
    from pipeline.tasks.registry import read_params

    return read_params()
