"""The command line: one command per stage, and the few that are not stages.

What a command needs is imported when it runs, so that `--help` answers at once.
"""

import atexit
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.engines import ENGINES, LOCAL_ENGINE
from pipeline.engines.command import end_with_parent
from pipeline.engines.machine import disable_avx512
from pipeline.errors import RunError, UserError, machine_error_message

if TYPE_CHECKING:
    from pipeline.params import Params

INTERRUPTED = 130  # what typer makes of Ctrl-C
SHOWN_ANSWERS = 10
COLLECT_AFTER = 100_000
"""How many more objects there are when Python next looks for garbage; 700 or 2,000 unless told otherwise."""

app = typer.Typer(
    help="How do transformers without positional encoding know the order of their input? "
    "Each stage of dvc.yaml is a command; `dvc repro` runs those that are stale.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
AblationName = Annotated[str, typer.Argument(help="A name under `ablations` in params.yaml.")]
Engine = Annotated[str, typer.Option(help=f"Where it runs: {', '.join(ENGINES)}.")]
JobsPerGpu = Annotated[int, typer.Option(help="How many share a GPU, where there are any.")]


@app.command()
def generate(task: Annotated[str, typer.Argument(help="A name under `tasks` in params.yaml.")]) -> None:
    """Draw a task's dataset: params.yaml -> data/<task>/.

    A stage. Writes train, validation and test as CSV, and a manifest.
    """
    params = _params()
    params.task(task)
    from pipeline.stages import generate

    generate.run(params, task)


@app.command()
def train(ablation: AblationName) -> None:
    """Train an ablation: params.yaml, data/<task>/ -> models/<ablation>/.

    A stage. Writes weights per seed, what rebuilds them, and the history.
    """
    params = _of_ablation(ablation)
    from pipeline.stages import train

    train.run(params, ablation)


@app.command()
def evaluate(ablation: AblationName) -> None:
    """Test an ablation: data/, models/ -> reports/evaluation/.

    A stage.
    """
    params = _of_ablation(ablation)
    from pipeline.stages import evaluate

    evaluate.run(params, ablation)


@app.command()
def analyze(ablation: AblationName) -> None:
    """Measure an ablation: data/, models/ -> reports/analysis/.

    A stage. Writes a table per measurement, of the ablation's members before, during and after training.
    """
    params = _of_ablation(ablation)
    from pipeline.stages import analyze

    analyze.run(params, ablation)


@app.command()
def report() -> None:
    """Tell the grid: reports/, models/ -> reports/index.html.

    A stage. Reads evaluations, analyses and histories; writes tables, figures, claims, summary.md and index.html.
    """
    from pipeline.stages import report

    report.run(_params())


@app.command()
def search(
    workers: Annotated[str, typer.Option(help="auto (as many as fit the GPUs, or the cores) or how many.")] = "auto",
    worker: Annotated[bool, typer.Option("--worker", help="Take part in a study, as one worker, and no more.")] = False,
    engine: Engine = LOCAL_ENGINE,
    jobs_per_gpu: JobsPerGpu = 1,
    promote: Annotated[int, typer.Option(help="Only add the best N configurations to `ablations`.")] = 0,
    confirm: Annotated[int | None, typer.Option(help="Only confirm this trial.", hidden=True)] = None,
) -> None:
    """How little is enough: params.yaml, data/ -> reports/search/.

    A stage: an Optuna study over the space under `search`, which goes on where it stopped.
    """
    params = _params()
    count, gpus = _count("--workers", workers), _share(jobs_per_gpu)
    _check_engine(engine)
    if promote < 0:
        raise UserError(f"--promote: must not be negative, not {promote}")
    from pipeline.stages import search

    if promote:
        search.promote(params, promote)
    elif confirm is not None:
        search.run_confirmation(params, confirm)
    elif worker:
        search.run_worker(params)
    else:
        search.run(params, workers=count, engine=engine, gpus=gpus)


@app.command()
def repro(
    jobs: Annotated[str, typer.Option(help="auto (as many as fit the GPUs, or the cores) or how many.")] = "auto",
    engine: Engine = LOCAL_ENGINE,
    jobs_per_gpu: JobsPerGpu = 1,
) -> None:
    """Run every stale stage up to the report, ablations side by side.

    Leaves what `dvc repro report` would. Goes on where it stopped.
    """
    params = _params()
    count, gpus = _count("--jobs", jobs), _share(jobs_per_gpu)
    _check_engine(engine)
    from pipeline.repro import driver

    driver.run(params, engine=engine, jobs=count, gpus=gpus)


@app.command(hidden=True)
def job(name: str, stages: list[str]) -> None:
    """A job of `grid`: stages of one ablation, by their names in dvc.yaml."""
    params = _params()
    from pipeline.repro import job

    job.run(params, name, stages)


def _count(option: str, said: str) -> int | None:
    if said == "auto":
        return None
    if not said.isdigit() or int(said) < 1:
        raise UserError(f"{option}: must be auto or a number from 1 on, not {said!r}")
    return int(said)


def _check_engine(engine: str) -> None:
    if engine not in ENGINES:
        raise UserError(f"--engine: {engine!r} is none (allowed: {', '.join(ENGINES)})")


def _share(jobs_per_gpu: int) -> float | None:
    """Of a GPU, for each job; None: all of it, where there is one."""
    if jobs_per_gpu < 1:
        raise UserError(f"--jobs-per-gpu: must be a number from 1 on, not {jobs_per_gpu}")
    return None if jobs_per_gpu == 1 else 1 / jobs_per_gpu


@app.command()
def predict(
    ablation: Annotated[
        str, typer.Argument(help="A trained ablation: its name or its folder; some come with the project.")
    ],
    prompts: Annotated[list[str], typer.Argument(help="What to continue, such as 123+456=.")],
    seed: Annotated[int | None, typer.Option(help="Of which member; without, of the first.")] = None,
    permute: Annotated[bool, typer.Option("--permute", help="In every order of the tokens before the last.")] = False,
) -> None:
    """Ask a trained ablation: models/<ablation>/ -> its answer.

    Where models/ has none of that name, what comes with the project is asked.
    """
    from pipeline.api import load

    model = load(ablation, seed=seed)
    name, width = model.ablation.name, max(map(len, prompts))
    for prompt, answer in zip(prompts, model.predict(prompts), strict=True):
        print(f"{name}  {prompt:<{width}} -> {answer.text}  (p = {answer.probability:.2g})")
        if permute:
            table = model.predict_all_orders(prompt)
            count, different = table["orders"].sum(), len(table)
            print(f"  {count:,} orders of the tokens before the last: {different:,} answer{'s' * (different > 1)}")
            for text, orders, example in table.head(SHOWN_ANSWERS).to_numpy().tolist():
                print(f"  {text}  {orders / count:.1%}, such as {example}")
            if different > SHOWN_ANSWERS:
                print(f"  and {different - SHOWN_ANSWERS:,} more")


@app.command(hidden=True)
def ship(ablation: str, seed: Annotated[int | None, typer.Option()] = None) -> None:
    """Puts a trained member among those that come with the project."""
    from pipeline.api import ship

    print(ship(ablation, seed=seed))


@app.command()
def track() -> None:
    """Rebuild MLflow's view: models/, reports/evaluation/ -> MLflow.

    Writes whatever it lacks of them, without duplicates.
    """
    from pipeline.stages import track

    track.run(_params())


@app.command()
def ui(port: Annotated[int, typer.Option(help="Where the pages are served.")] = 5000) -> None:
    """Look at the runs: MLflow -> its pages, in a browser.

    Says their address, and opens it where there is a screen.
    """
    params = _params()
    from pipeline import tracking

    tracking.serve(params.tracking, port)


@app.command()
def check(
    ablation: Annotated[str, typer.Argument(help="With --resolved: of this ablation alone.")] = "",
    resolved: Annotated[bool, typer.Option("--resolved", help="Print every setting there is, as YAML.")] = False,
) -> None:
    """Say whether params.yaml is a valid experiment, and what it is."""
    params = _params()
    if ablation and not resolved:
        raise UserError("check: an ablation is shown with --resolved; without, the file is checked as a whole")
    if resolved:
        from ruamel.yaml import YAML

        yaml = YAML()
        yaml.width = 120
        yaml.default_flow_style = None  # what holds no other table or list is one line
        yaml.dump((params.ablation(ablation) if ablation else params).resolved(), sys.stdout)
        return
    ablations = params.all_ablations()
    members = sum(len(ablation.training.seeds) for ablation in ablations)
    print(f"params.yaml: {len(ablations)} ablations, {members} members, tasks {', '.join(params.tasks)}")


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Of its folder below studies/.")],
    data: Annotated[Path | None, typer.Option(help="What is the order of this text, or CSV file, worth?")] = None,
    column: Annotated[str | None, typer.Option(help="Of the CSV file: the one that holds the series.")] = None,
) -> None:
    """Make studies/<name>/, a further experiment.

    With params.yaml, dvc.yaml and reports of its own; where it is there, its dvc.yaml is brought up to date. `make
    study NAME=<name>` runs it. With --data it is about a file of yours (a series if its name ends in .csv, else a
    text), which is copied there.
    """
    from pipeline import study

    folder = study.make(name, data=data, column=column)
    print(f"{folder}: change params.yaml, write README.md, then `make study NAME={name}`")


@app.command()
def preset(
    name: Annotated[
        str, typer.Argument(help="smoke, own or published; the default experiment is what git has committed.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Overwrite changes of your own.")] = False,
) -> None:
    """Put another experiment in place: a preset -> params.yaml."""
    from pipeline import presets

    presets.put_in_place(name, force=force)
    print(f"params.yaml is now the preset {name!r}; run `python -m pipeline repro`")
    print("back to the default experiment: `git checkout params.yaml`")


def main() -> None:
    """Run the command line; one line and exit code 2 for input that cannot be used, 1 for what failed."""
    collect_rarely()
    disable_avx512()
    of_an_engine = end_with_parent()
    try:
        app()
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, UserError) else 1) from None
    except (OSError, MemoryError, RuntimeError) as error:
        if not (said := machine_error_message(error)):
            raise
        print(f"error: {' '.join(sys.argv[1:3])}: {said}", file=sys.stderr)
        raise SystemExit(1) from None
    except SystemExit as end:
        if end.code == INTERRUPTED and not of_an_engine:  # which says it for all
            print("interrupted: nothing half-written; what finished is kept", file=sys.stderr)
        raise


def collect_rarely() -> None:
    """Not while modules are imported, of whose objects all stay, nor when the process ends, and they all go: a quarter
    of the time until a command has done nothing."""
    gc.set_threshold(COLLECT_AFTER)
    atexit.register(gc.freeze)


def _of_ablation(name: str) -> "Params":
    """The experiment, if it has this ablation, and the ablation its dataset: what lacks is said before what is slow is
    imported."""
    params = _params()
    ablation = params.ablation(name)
    from pipeline import dataset
    from pipeline.stages import DATA

    dataset.read(DATA / ablation.dataset, ablation.task)
    return params


def _params() -> "Params":
    from pipeline import tracking
    from pipeline.params import read

    params = read()
    tracking.check(params.tracking)
    tracking.name_call()
    return params
