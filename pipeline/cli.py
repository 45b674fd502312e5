"""The command line: one command per stage of dvc.yaml, and a few other commands.

Each command imports its modules when it runs, so that `--help` answers at once.
"""

import errno
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import pipeline
from pipeline.addresses import hide_password
from pipeline.engines import LOCAL_ENGINE, EngineName
from pipeline.engines.command import exit_when_parent_exits
from pipeline.environment import prepare_process
from pipeline.errors import RunError, UserError, machine_error_message
from pipeline.json_output import Json, json_result
from pipeline.startup import adapt_to_environment, refuse_linked_folders
from pipeline.tracking.client import apply_client_settings

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.params import Params

INTERRUPTED_EXIT_CODE = 130
"""Exit code of a command that was interrupted by Ctrl-C or SIGTERM."""
OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPIPE)
"""Codes of errors that name no file when standard output is a file on a full disk, or a closed pipe."""
PROGRAM = "breaking-symmetry" if Path(sys.argv[0]).name == "breaking-symmetry" else "python -m pipeline"
"""Name of the program in its help. Shells complete the arguments of the first one alone."""

app = typer.Typer(
    help="Train small transformers, with and without positional encoding, and measure how they recognise the order of "
    "their input tokens. An ablation is a variant of model and training, defined in params.yaml. Each stage in "
    "dvc.yaml is a command; `repro` runs all stages whose inputs have changed.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _complete(section: str) -> Callable[[str], list[str]]:
    """Return a function that completes a name in a section of params.yaml, for shells."""

    def complete(incomplete: str) -> list[str]:
        with suppress(UserError):
            return [name for name in getattr(_read_params(), section) if name.startswith(incomplete)]
        return []

    return complete


TaskName = Annotated[str, typer.Argument(help="Name of a task in params.yaml.", autocompletion=_complete("tasks"))]
AblationName = Annotated[
    str, typer.Argument(help="Name of an ablation in params.yaml.", autocompletion=_complete("ablations"))
]
Engine = Annotated[EngineName, typer.Option(help="Where processes run: on this machine, on a Ray cluster or on SLURM.")]
JobsPerGpu = Annotated[int, typer.Option(min=1, help="Number of processes that share one GPU.")]
PROCESS_COUNT_HELP = "Number of parallel processes (default: as many as fit on the GPUs; without, one per CPU core)."
ProcessCount = Annotated[int | None, typer.Option(min=1, help=PROCESS_COUNT_HELP)]


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(pipeline.__version__)
        raise typer.Exit


@app.callback()
def global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the name of a command; the help text is that of `app`."""


@app.command()
def settings() -> None:
    """Write every setting of each ablation, defaults included.

    Reads params.yaml and writes reports/settings/<ablation>.json. An ablation is trained again if its file changes.
    """
    _run_stage("settings")


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
    _run_stage("collect")


@app.command()
def report() -> None:
    """Build the report from the tables of `collect`.

    Reads these tables and answers.md.j2, a text by people that refers to their numbers. Writes reports/estimates.csv,
    the figures, reports/summary.md, details.md and index.html.
    """
    _run_stage("report")


@app.command()
def documents() -> None:
    """Write README.md and other documents from their templates.

    In a template (README.md.j2, docs/*.md.j2, studies/*/README.md.j2) every number of a result refers to a row of an
    estimates.csv.
    """
    from pipeline.stages import documents

    documents.run()


@app.command()
def page(
    ablations: Annotated[
        list[str] | None, typer.Argument(help="Trained ablations of one task (default: those of the project).")
    ] = None,
) -> None:
    """Write reports/play.html: one file that runs trained networks in a browser.

    It needs no installation and no network access. The ablations are names or folders, as for `predict`.
    """
    from pipeline.stages import page

    page.run(ablations or [])


@app.command()
def search(
    workers: ProcessCount = None,
    engine: Engine = LOCAL_ENGINE,
    jobs_per_gpu: JobsPerGpu = 1,
    worker: Annotated[bool, typer.Option("--worker", help="Join a running search until it is complete.")] = False,
    json: Json = False,
) -> None:
    """Search with Optuna for the smallest models that learn one task.

    Section `search` of params.yaml names the task and lists the settings to try. A trial trains a model with some of
    these settings, with more seeds until it is decided whether it converges. Writes reports/search/. After a stop, the
    same command continues the search.
    """
    params = _read_params()
    from pipeline.stages import search

    with json_result(json) as result:
        if worker:
            search.run_worker(params)
        else:
            search.run_search(params, worker_count=workers, engine=engine, gpus_per_worker=1 / jobs_per_gpu)
            result["report"] = str(search.SEARCH_FOLDER / "index.html")


@app.command()
def repro(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Ablations to update, with those that they are compared with (default: all)."),
    ] = None,
    check_code: Annotated[
        bool,
        typer.Option(
            "--check-code",
            help="Keep trainings of which only the code has changed, if its first 50 steps give the same history.",
        ),
    ] = False,
    jobs: ProcessCount = None,
    engine: Engine = LOCAL_ENGINE,
    jobs_per_gpu: JobsPerGpu = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the names of these stages.")] = False,
    json: Json = False,
) -> None:
    """Run all stages whose inputs have changed.

    The stages are settings, generate, train, evaluate, analyze, collect and report, as for `dvc repro report`, but
    several ablations are trained at the same time. After a stop, the same command continues. With names, the report has
    the other ablations as they were, or lacks them if their settings or data have changed.
    """
    refuse_linked_folders()
    params = _read_params()
    from pipeline.repro import driver

    with json_result(json) as result:
        stale = driver.list_stale(params) if dry_run or json else []
        if dry_run:
            print("\n".join(stale) or "nothing is stale")
        else:
            driver.update_report(
                params, names or (), check_code=check_code, engine=engine, max_jobs=jobs, gpus_per_job=1 / jobs_per_gpu
            )
            result["report"] = "reports/index.html"
        result["stale_stages"] = stale


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
    json: Json = False,
) -> None:
    """Print a trained model's answers to prompts."""
    from pipeline.api import load

    model = load(ablation, seed=seed)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        answers = model.predict(prompts)
    for warning in raised:
        print(f"warning: {warning.message}", file=sys.stderr)
    with json_result(json) as result:
        result |= {"ablation": model.ablation.name, "seed": model.seed, "answers": []}
        width = max(map(len, prompts))
        for prompt, answer in zip(prompts, answers, strict=True):
            result["answers"].append({"prompt": prompt, "answer": answer.text, "probability": answer.probability})
            print(f"{model.ablation.name}  {prompt:<{width}} -> {answer.text}  (probability {answer.probability:.2g})")
            if permute:
                all_orders = model.predict_all_orders(prompt)
                result["answers"][-1]["all_orders"] = all_orders.to_dict("records")
                _print_all_orders(all_orders)


def _print_all_orders(answers: "pd.DataFrame") -> None:
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
    _run_stage("track")


@app.command()
def release() -> None:
    """Write all results into one archive, so that others need to train nothing.

    To be unpacked in a clone: datasets, weights, pages, tables and MLflow's store.
    """
    from pipeline.stages import release

    print(release.run(_read_params()))


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: for every machine.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the web server (default: 5000, or the next free one).")
    ] = None,
) -> None:
    """Start MLflow's web interface, which shows all runs.

    Prints the address, and opens it in a browser if this machine has a screen. Ctrl-C stops the web server.
    """
    from pipeline.stages import track

    track.show(_read_params(), host, port)


@app.command()
def check(
    ablation: Annotated[str, typer.Argument(help="Print all settings of this ablation.")] = "",
    resolved: Annotated[bool, typer.Option("--resolved", help="Print all settings, including defaults.")] = False,
    json: Json = False,
) -> None:
    """Check params.yaml, and whether its datasets can be generated, and print a summary, or all settings."""
    from pipeline.tracking.address import find_store_address, list_ignored_variables

    params = _read_params()
    refuse_linked_folders()
    for name, task in params.tasks.items():
        try:
            task.draw_splits()
        except UserError as error:
            raise UserError(f"params.yaml: tasks.{name}: {error}") from None
    ablations = params.all_ablations()
    runs, tasks = sum(len(ablation.training.seeds) for ablation in ablations), list(params.tasks)
    address, source = find_store_address(params.tracking)
    with json_result(json) as result:
        if not (ablation or resolved):
            result |= {"ablations": list(params.ablations), "runs": runs, "tasks": tasks}
            result |= {"tracking_uri": hide_password(address), "tracking_uri_from": source}
            print(f"params.yaml: {len(ablations)} ablations, {runs} runs, tasks {', '.join(tasks)}")
            print(f"tracking.uri: {hide_password(address)} ({source})")
            if ignored := list_ignored_variables():
                print(f"ignored: {', '.join(ignored)}")
            return
        result |= (params.ablation(ablation) if ablation else params).resolved_settings()
        if not json:
            _print_yaml(result)


def _print_yaml(settings: dict[str, Any]) -> None:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 120
    yaml.default_flow_style = None  # innermost tables and lists on one line
    yaml.dump(settings, sys.stdout, transform=hide_password)


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Name of the study, and of its folder in studies/.")],
    data: Annotated[
        Path | None, typer.Option(help="Text or table of yours: how much does token order help to predict it?")
    ] = None,
    column: Annotated[str | None, typer.Option(help="Column of the table that holds the time series.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Ready-made experiment to begin with (default: the study's name, if it is one of them). smoke: a "
            "quick test. own: how much token order helps to predict numpy's documentation. published: the paper's "
            "published runs, for a GPU."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Create another experiment in the folder studies/<name>/.

    The folder gets a copy of params.yaml to edit, or a ready-made experiment (--preset). With --data it gets a copy of
    your file (a table as plain CSV), and a params.yaml that studies this file. `make study NAME=<name>` runs the
    experiment; its reports are written to the same folder. If the folder exists, only its dvc.yaml is updated.
    """
    from pipeline import study

    is_new = not (Path("studies") / name).exists()
    with json_result(json) as result:
        folder = study.create_study(name, data=data, column=column, preset=preset)
        if is_new:
            print(f"{folder}: edit params.yaml and README.md, then run `make study NAME={name}`")
        result |= {"folder": str(folder), "command": f"make study NAME={name}"}


def main() -> None:
    """Run the command of `sys.argv`, and exit with its exit code."""
    adapt_to_environment()
    apply_client_settings()
    prepare_process()
    started_by_engine = exit_when_parent_exits()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = run_command(sys.argv[1:])
    if code == INTERRUPTED_EXIT_CODE and not started_by_engine:  # the process that started the engine prints it for all
        command = f"`{shlex.join(['python', '-m', 'pipeline', *sys.argv[1:]])}`"
        if "MAKELEVEL" in os.environ:
            command = "the same make command"
        print(f"interrupted: nothing half-written, what finished is kept; go on with {command}", file=sys.stderr)
    raise SystemExit(code)


def run_command(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code: 0 for success, 1 for a failure while running, 2 for invalid input.

    Errors of the user or of the machine are printed as one line on stderr; other exceptions are raised.
    """
    try:
        code = app(list(arguments) or ["--help"], prog_name=PROGRAM, standalone_mode=False) or 0
        sys.stdout.flush()  # else a full disk under the output is reported after the exit code is set
        return code
    except typer.TyperException as error:  # not all its messages show what was given
        code, message = 2, f"{error.format_message()} (given: {' '.join(arguments)})"
    except (UserError, RunError) as error:
        code, message = error.exit_code, str(error)
    except (OSError, MemoryError, RuntimeError) as error:
        reason = machine_error_message(error)
        if not reason and isinstance(error, OSError) and error.errno in OUTPUT_ERRORS:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing is written again when the process exits
            reason = f"the output cannot be written: {error.strerror}"
        if not reason:
            raise
        code, message = 1, f"{' '.join(arguments[:2])}: {reason}"
    print(f"error: {hide_password(message)}", file=sys.stderr)
    return code


def _run_stage(stage: str, *names: str) -> None:
    """Run a stage, for one ablation or task of `params.yaml`; a wrong name is reported before the slow imports."""
    if "DVC_STAGE" in os.environ:  # run by DVC
        refuse_linked_folders()
    params = _read_params()
    for name in names:
        params.task(name) if stage == "generate" else params.ablation(name)
    import_module(f"pipeline.stages.{stage}").run(params, *names)


def _read_params() -> "Params":
    from pipeline.tasks.registry import read_params

    return read_params()
