"""Run all stale stages in parallel jobs, save the results in DVC's cache, and write dvc.lock."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline import files
from pipeline.engines import ENGINES, Command, EngineName, Limits
from pipeline.errors import RunError, UserError
from pipeline.params import Ablation, Params
from pipeline.repro import dvc_stages
from pipeline.repro.progress import JOB_FOLDER, ProgressView
from pipeline.stages import settings
from pipeline.tasks.registry import read_params
from pipeline.tracking.failures import NOT_TRACKED

SETTINGS_STAGE, COLLECT_STAGE, REPORT_STAGE = "settings", "collect", "report"
"""Names in dvc.yaml of stages that are not of one ablation or task. The last needs nothing but `collect`."""


def update_report(
    params: Params,
    names: Sequence[str] = (),
    *,
    check_code: bool = False,
    engine: EngineName,
    max_jobs: int | None,
    gpus_per_job: float,
) -> None:
    """Run every stale stage, those of different ablations in parallel, until the report is up to date.

    Args:
        names: ablations to update, with those that they are compared with (default: all). Rows of the others in the
            tables of the report stay where their settings and data are unchanged, and are left out where not.
        check_code: keep trainings of which only the code has changed, if it trains as before (see `check_code.py`).
        engine: name of the engine that runs the jobs.
        max_jobs: largest number of jobs that run at once (None: as many as there is room for).
        gpus_per_job: GPUs for each job, as in `Limits`.

    Raises:
        UserError: there is no ablation of a name, another `repro`, or DVC, runs in this folder, or the engine is not
            available.
        RunError: a job failed, or params.yaml or inputs of a job changed meanwhile. Results of other jobs are saved.
    """
    chosen = add_compared(params, names) if names else list(params.ablations)
    with _lock_experiment():
        if dvc_stages.is_up_to_date(REPORT_STAGE):
            print("nothing is stale")
            return
        for path in JOB_FOLDER.glob("*.*"):  # the jobs of an earlier call
            path.unlink(missing_ok=True)
        run_commands = partial(ENGINES[engine].run, limits=Limits(max_jobs, gpus_per_job))
        _update_settings(params)
        _run_stale_jobs({f"generate-{task}": [f"generate@{task}"] for task in params.tasks}, run_commands)
        if check_code:
            from pipeline.repro.check_code import keep_unaffected_trainings  # imports Lightning, which takes seconds

            keep_unaffected_trainings(params)
        _run_stale_jobs(build_jobs_longest_first(map(params.ablation, chosen)), run_commands)
        for ablation in read_params().all_ablations():
            settings.check_unchanged(ablation)  # else `dvc repro` would train it anew below
        others = [name for name in params.ablations if name not in chosen]
        if others and dvc_stages.list_stale(stage for name in others for stage in stages_of(name)):
            _report_partly(params, others)
            return
        print("updating the tables and the report", file=sys.stderr)
        dvc_stages.write_lock_file(COLLECT_STAGE)
        # the stage's command runs `python`, which must be the Python of this process
        search_path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        command = [sys.executable, "-m", "dvc", "repro", "--quiet", REPORT_STAGE]
        if code := subprocess.run(command, env=os.environ | {"PATH": search_path}).returncode:
            raise RunError(f"repro: `dvc repro {REPORT_STAGE}` failed with exit code {code}")


def list_stale(params: Params) -> list[str]:
    """Return the names of the stages that `update_report` would run or restore, in this order."""
    with _lock_experiment():
        _update_settings(params)
        return dvc_stages.plan_stale(REPORT_STAGE, SETTINGS_STAGE)


@contextmanager
def _lock_experiment() -> Iterator[None]:
    """Lock the current folder, so that one `repro` at a time runs there; the lock ends with the process."""
    owner = JOB_FOLDER / "process"
    JOB_FOLDER.mkdir(exist_ok=True)
    try:
        with FileLock(JOB_FOLDER / "lock", blocking=False):
            files.write_text(owner, f"{os.getpid()}\n")
            yield
    except Timeout:
        process = owner.read_text("utf-8").strip() if owner.exists() else "unknown"
        raise UserError(f"repro: already running in this folder (process {process}); wait for it to end") from None


def add_compared(params: Params, names: Sequence[str]) -> list[str]:
    """Return the names of ablations with those that they are compared with, in the order of `params.yaml`.

    A UserError is raised if there is no ablation of a name.
    """
    chosen = {params.ablation(name).name for name in names}
    pairs = [{comparison.first, comparison.second} for comparison in params.comparisons]
    chosen = chosen.union(*(pair for pair in pairs if pair & chosen))
    return [name for name in params.ablations if name in chosen]


def stages_of(ablation_name: str) -> list[str]:
    """Return the names in dvc.yaml of the stages of one ablation, in the order in which they must run."""
    return [f"{stage}@{ablation_name}" for stage in ("train", "evaluate", "analyze")]


def _update_settings(params: Params) -> None:
    """Run the stage `settings` in this process if it is stale: it takes a moment."""
    if stale := dvc_stages.prepare_stale_stages({SETTINGS_STAGE: [SETTINGS_STAGE]}):
        settings.run(params)
        dvc_stages.save_results(stale[SETTINGS_STAGE])


def _report_partly(params: Params, others: Sequence[str]) -> None:
    """Write the tables and the report, where the ablations `others` keep their rows or are left out.

    DVC records nothing, so that the next call without names makes the whole report.
    """
    from pipeline.stages import collect, report  # take a second

    unchanged = dvc_stages.have_same_settings_and_data(f"train@{name}" for name in others)
    collect.run(params, others, kept=[name for name in others if f"train@{name}" in unchanged])
    report.run(params)


def build_jobs_longest_first(ablations: Iterable[Ablation]) -> dict[str, list[str]]:
    """Return the stages of each ablation, the most expensive first, so that no long job is left for the end.

    The cost of a job is estimated from the sizes of model and training.
    """

    def cost(ablation: Ablation) -> float:
        model, training = ablation.model, ablation.training
        # with full attention, about one forward pass for each character of an answer
        passes = 4 if "full" in model.attention_by_layer else 1
        return passes * len(training.seeds) * training.steps * training.batch_size * model.layers * model.width**2

    return {ablation.name: stages_of(ablation.name) for ablation in sorted(ablations, key=cost, reverse=True)}


def _run_stale_jobs(jobs: Mapping[str, Sequence[str]], run_commands: Callable[..., None]) -> None:
    """Run the stale stages of each job (name -> stages in dvc.yaml), and save their results in DVC's cache."""
    stale = dvc_stages.prepare_stale_stages(jobs)
    if not stale:
        return
    names, failures = list(stale), list[str]()
    view = ProgressView(names)

    def finish_job(index: int, exit_code: int) -> None:
        name, error = names[index], ""
        if exit_code:
            last = (_read_log(name) or ["no output"])[-1].strip().removeprefix("error: ")[:200]
            error = f"exit code {exit_code}: {last}; see {JOB_FOLDER / f'{name}.log'}"
        elif changed := dvc_stages.save_results(stale[name]):
            error = f"{', '.join(changed)} changed while it ran, so its results are not saved"
        if error:
            failures.append(f"{name} ({error})")
        view.report_end(name, error)

    commands = [
        Command.pipeline_command("job", name, *stages.stage_names, log_file=JOB_FOLDER / f"{name}.log")
        for name, stages in stale.items()
    ]
    with view.display():
        run_commands(commands, on_command_end=finish_job)
    if warning := next(filter(None, map(_find_tracking_warning, names)), None):
        print(warning, file=sys.stderr)
    if failures:
        raise RunError(
            f"repro: {len(failures)} of {len(names)} jobs failed: {'; '.join(failures)}; "
            f"the results of the others are saved, and the same command continues"
        )


def _find_tracking_warning(job_name: str) -> str | None:
    """Return the line in the log of a job that says that MLflow did not get its results, or None."""
    return next((line for line in _read_log(job_name) if line.startswith(NOT_TRACKED)), None)


def _read_log(job_name: str) -> list[str]:
    """Return the lines of the log of a job; none without a log."""
    log = JOB_FOLDER / f"{job_name}.log"
    return log.read_text("utf-8", "replace").strip().splitlines() if log.exists() else []
