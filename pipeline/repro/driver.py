"""Run the jobs that are stale, save their results in DVC's cache, and let DVC write its lock file."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.engines import ENGINES, Command, EngineName
from pipeline.errors import RunError
from pipeline.params import Ablation, Params
from pipeline.repro import dvc_stages
from pipeline.repro.state import Job, clear, exclusive_access, log_path
from pipeline.repro.view import View

TARGET = "report"
"""The stage that needs all others."""
GENERATE_COST = 5e7
"""Cost of a dataset: a few seconds, where an ablation of cost 1e10 takes minutes."""
PREFIXES = 4
"""Samples per example under full attention: about one for each character of the answer."""


def run(params: Params, *, engine: EngineName, jobs: int | None, gpus: float | None) -> None:
    """Bring the report and all that it needs up to date, with the stale ablations side by side.

    Args:
        engine: where the jobs run.
        jobs: how many run at once (None: as many as there is room for).
        gpus: GPUs for each job, as for `Engine.run`.

    Raises:
        UserError: another `repro`, or DVC, runs in this folder, or the engine is not available.
        RunError: a job failed, or its inputs changed while it ran. The results of the other jobs are saved.
    """
    with exclusive_access():
        if dvc_stages.is_current(TARGET):
            print("nothing is stale")
            return
        datasets = {f"generate-{task}": Job([f"generate@{task}"], GENERATE_COST) for task in params.tasks}
        _run_stale(datasets, engine, jobs, gpus)
        _run_stale(longest_first(params.all_ablations()), engine, jobs, gpus)
        dvc_stages.write_lock_file(TARGET)
        _run_dvc("repro", "--quiet", TARGET)


def longest_first(ablations: Iterable[Ablation]) -> dict[str, Job]:
    """Return a job for each ablation, by name, the most expensive first: so the jobs end at about the same time.

    The cost is estimated from the sizes of model and training.
    """

    def job(ablation: Ablation) -> Job:
        model, training = ablation.model, ablation.training
        samples = training.steps * training.batch_size * (PREFIXES if model.attention == "full" else 1)
        cost = len(training.seeds) * samples * model.layers * model.width**2
        return Job([f"{stage}@{ablation.name}" for stage in ("train", "evaluate", "analyze")], cost)

    jobs = {ablation.name: job(ablation) for ablation in ablations}
    return dict(sorted(jobs.items(), key=lambda item: item[1].cost, reverse=True))


def _run_stale(jobs: Mapping[str, Job], engine: EngineName, workers: int | None, gpus: float | None) -> None:
    """Run the stale stages of each job, by name, and save their results."""
    chains = dvc_stages.stale_stages(*(job.stages for job in jobs.values()))
    stale = {name: stages for name, stages in zip(jobs, chains, strict=True) if stages.names}
    if not stale:
        return
    names, failures = list(stale), list[str]()
    for name in names:
        clear(name)
    commands = [Command.pipeline_command("job", name, *stale[name].names, log=log_path(name)) for name in names]
    view = View({name: Job(stages.names, jobs[name].cost) for name, stages in stale.items()})

    def end(index: int, code: int) -> None:
        name, error = names[index], ""
        if code:
            error = _failure(name, code)
        elif changed := dvc_stages.save_results(stale[name]):
            error = f"{', '.join(changed)} changed while it ran, so its results are not saved"
        if error:
            failures.append(f"{name} ({error})")
        view.end(name, error or "done")

    with view.shown():
        ENGINES[engine].run(commands, workers=workers, gpus=gpus, on_end=end)
    if failures:
        raise RunError(
            f"repro: {len(failures)} of {len(names)} jobs failed: {'; '.join(failures)}; "
            f"the results of the others are saved, and the same command continues"
        )


def _failure(job: str, code: int) -> str:
    """Describe a job that failed by its exit code and the last line of its log."""
    path = log_path(job)
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    last = lines[-1].strip().removeprefix("error: ")[:200] if lines else "no output"
    return f"exit code {code}: {last}; see {path}"


def _run_dvc(*arguments: str) -> None:
    """Run DVC's command line, with this Python first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], env={**os.environ, "PATH": path})
    if done.returncode:
        raise RunError(f"repro: `dvc {' '.join(arguments)}` failed with exit code {done.returncode}")
