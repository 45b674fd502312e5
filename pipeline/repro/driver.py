"""Run what is stale, job by job, keep what it made, and let DVC record it all."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.engines import ENGINES, Command, EngineName
from pipeline.errors import RunError
from pipeline.params import Ablation, Params
from pipeline.repro import ledger, pace
from pipeline.repro.state import Job, clear, exclusive_access, log
from pipeline.repro.view import View

RESULT = "report"
"""The stage for whose sake all the others run."""
DRAWING = 5e7
"""The cost of a dataset: a few seconds, where an ablation of cost 1e10 takes minutes."""
PREFIXES = 4
"""Of a row that is learned with full attention: about as many as its answer has characters."""


def run(params: Params, *, engine: EngineName, jobs: int | None, gpus: float | None) -> None:
    """Bring the report and all that it needs up to date, the stale ablations side by side.

    Args:
        engine: the name of where they run.
        jobs: how many at once (None: as many as there is room for).
        gpus: as `Engine.run`.

    Raises:
        UserError: another grid, or DVC, is at work in this folder, or there is no such engine here.
        RunError: a job failed, or what it depends on changed while it ran; the others are kept.
    """
    with exclusive_access():
        if ledger.is_current(RESULT):
            print("nothing is stale")
            return
        draw = {f"generate-{task}": Job([f"generate@{task}"], DRAWING) for task in params.tasks}
        _run_stale(draw, engine, jobs, gpus, paced=False)
        _run_stale(longest_first(params.all_ablations()), engine, jobs, gpus)
        ledger.record(RESULT)
        _dvc("repro", "--quiet", RESULT)


def longest_first(ablations: Iterable[Ablation]) -> dict[str, Job]:
    """A job for each ablation, in the order in which they start: the last one should be short, because the others have
    nothing left to do meanwhile. What an ablation costs is an estimate from its sizes."""

    def job(ablation: Ablation) -> Job:
        model, training = ablation.model, ablation.training
        samples = training.steps * training.batch_size * (PREFIXES if model.attention == "full" else 1)
        cost = len(training.seeds) * samples * model.layers * model.width**2
        return Job([f"{stage}@{ablation.name}" for stage in ("train", "evaluate", "analyze")], cost)

    return dict(
        sorted(((ablation.name, job(ablation)) for ablation in ablations), key=lambda one: one[1].cost, reverse=True)
    )


def _run_stale(
    jobs: Mapping[str, Job], engine: EngineName, workers: int | None, gpus: float | None, *, paced: bool = True
) -> None:
    """Run the stale stages of each job, by its name, and keep what they made. `paced`: whether how long they take, if
    all of their stages are stale, says how long the next ones will."""
    found = zip(jobs, ledger.stale(*(job.stages for job in jobs.values())), strict=True)
    begun = {job: stale for job, stale in found if stale.stages}
    if not begun:
        return
    names, failed = list(begun), list[str]()
    for job in names:
        clear(job)
    commands = [Command.pipeline_command("job", job, *begun[job].stages, log=log(job)) for job in names]

    stale_jobs = {job: Job(stale.stages, jobs[job].cost) for job, stale in begun.items()}
    paced = paced and all(stale.stages == jobs[job].stages for job, stale in begun.items())
    with View(stale_jobs, pace.measured(engine, workers) if paced else None) as view:

        def end(index: int, code: int) -> None:
            job = names[index]
            wrong = _said(job, code) if code else _changed(ledger.keep(begun[job]))
            if wrong:
                failed.append(f"{job} ({wrong})")
            view.end(job, wrong or "done")

        ENGINES[engine].run(commands, workers=workers, gpus=gpus, on_end=end)
        if paced and not failed:
            pace.store(engine, workers, view.cost, view.seconds)
    if failed:
        raise RunError(
            f"grid: {len(failed)} of {len(names)} jobs failed: {'; '.join(failed)}; "
            f"what the others made is kept, and the same command goes on"
        )


def _said(job: str, code: int) -> str:
    """The last line of a job that failed."""
    lines = log(job).read_text(errors="replace").strip().splitlines() if log(job).exists() else []
    last = lines[-1].strip() if lines else "it said nothing"
    return f"exit code {code}: {last.removeprefix('error: ')[:200]}; all of it: {log(job)}"


def _changed(names: Sequence[str]) -> str:
    return f"{', '.join(names)} changed while it ran, so that it is not kept" if names else ""


def _dvc(*arguments: str) -> None:
    """Run DVC's own command line, which finds this Python first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], env={**os.environ, "PATH": path})
    if done.returncode:
        raise RunError(f"grid: `dvc {' '.join(arguments)}` failed with exit code {done.returncode}")
