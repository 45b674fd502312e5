"""Run all stale stages in parallel jobs, save the results in DVC's cache, and write dvc.lock."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.engines import ENGINES, Command, EngineName
from pipeline.errors import RunError
from pipeline.params import Ablation, Params
from pipeline.repro import dvc_stages
from pipeline.repro.state import Job, delete_job_files, lock_experiment, log_file_path
from pipeline.repro.view import ProgressView

REPORT_STAGE = "report"
"""Name in dvc.yaml of the stage that builds the report and needs all other stages."""
DATASET_COST = 5e7
"""Estimated cost (`Job.cost`) of generating a dataset: a few seconds; an ablation of cost 1e10 takes minutes."""
FULL_ATTENTION_COST_FACTOR = 4
"""Cost of training with full attention relative to causal: about one forward pass for each character of an answer."""


def update_report(params: Params, *, engine: EngineName, max_jobs: int | None, gpus_per_job: float | None) -> None:
    """Run every stale stage, those of different ablations in parallel, until the report is up to date.

    Args:
        engine: name of the engine that runs the jobs.
        max_jobs: largest number of jobs that run at once (None: as many as there is room for).
        gpus_per_job: GPUs for each job, as in `Engine.run`.

    Raises:
        UserError: another `repro`, or DVC, runs in this folder, or the engine is not available.
        RunError: a job failed, or inputs of a job changed while it ran. The results of the other jobs are saved.
    """
    with lock_experiment():
        if dvc_stages.is_up_to_date(REPORT_STAGE):
            print("nothing is stale")
            return
        datasets = {f"generate-{task}": Job([f"generate@{task}"], DATASET_COST) for task in params.tasks}
        _run_stale_jobs(datasets, engine, max_jobs, gpus_per_job)
        _run_stale_jobs(build_jobs_longest_first(params.all_ablations()), engine, max_jobs, gpus_per_job)
        dvc_stages.write_lock_file(REPORT_STAGE)
        _run_dvc("repro", "--quiet", REPORT_STAGE)


def build_jobs_longest_first(ablations: Iterable[Ablation]) -> dict[str, Job]:
    """Return a job for each ablation, by name, the most expensive first, so that no long job is left for the end.

    The cost of a job is estimated from the sizes of model and training.
    """

    def build_job(ablation: Ablation) -> Job:
        model, training = ablation.model, ablation.training
        cost = len(training.seeds) * training.steps * training.batch_size * model.layers * model.width**2
        if model.attention == "full":
            cost *= FULL_ATTENTION_COST_FACTOR
        return Job([f"{stage}@{ablation.name}" for stage in ("train", "evaluate", "analyze")], cost)

    jobs = {ablation.name: build_job(ablation) for ablation in ablations}
    return dict(sorted(jobs.items(), key=lambda item: item[1].cost, reverse=True))


def _run_stale_jobs(
    jobs: Mapping[str, Job], engine: EngineName, max_jobs: int | None, gpus_per_job: float | None
) -> None:
    """Run the stale stages of each job, given by name, and save the results of the stages in DVC's cache."""
    chains = dvc_stages.prepare_stale_stages(*(job.stage_names for job in jobs.values()))
    stale = {name: stages for name, stages in zip(jobs, chains, strict=True) if stages.stage_names}
    if not stale:
        return
    names, failures = list(stale), list[str]()
    for name in names:
        delete_job_files(name)
    commands = [
        Command.pipeline_command("job", name, *stale[name].stage_names, log_file=log_file_path(name)) for name in names
    ]
    view = ProgressView({name: Job(stages.stage_names, jobs[name].cost) for name, stages in stale.items()})

    def finish_job(index: int, exit_code: int) -> None:
        name, error = names[index], ""
        if exit_code:
            error = _describe_failure(name, exit_code)
        elif changed := dvc_stages.save_results(stale[name]):
            error = f"{', '.join(changed)} changed while it ran, so its results are not saved"
        if error:
            failures.append(f"{name} ({error})")
        view.report_end(name, error or "done")

    with view.display():
        ENGINES[engine].run(commands, max_workers=max_jobs, gpus_per_command=gpus_per_job, on_command_end=finish_job)
    if failures:
        raise RunError(
            f"repro: {len(failures)} of {len(names)} jobs failed: {'; '.join(failures)}; "
            f"the results of the others are saved, and the same command continues"
        )


def _describe_failure(job_name: str, exit_code: int) -> str:
    """Return a failed job's exit code, last line of output and path of the log file, as one line of text."""
    path = log_file_path(job_name)
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    last = lines[-1].strip().removeprefix("error: ")[:200] if lines else "no output"
    return f"exit code {exit_code}: {last}; see {path}"


def _run_dvc(*arguments: str) -> None:
    """Run `dvc` with the arguments; `python` in the commands of stages is the Python of this process."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], env={**os.environ, "PATH": path})
    if done.returncode:
        raise RunError(f"repro: `dvc {' '.join(arguments)}` failed with exit code {done.returncode}")
