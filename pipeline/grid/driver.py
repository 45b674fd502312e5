"""Run what is stale, job by job, keep what it made, and let DVC record it all."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.engines import ENGINES, Command
from pipeline.grid import ledger
from pipeline.grid.state import forget, log
from pipeline.grid.view import View
from pipeline.params import Params
from pipeline.refusal import Failed

RESULT = "report"
"""The stage for whose sake all the others run."""


class Job(NamedTuple):
    """The stages that one process runs."""

    name: str
    stages: list[str]


def run(params: Params, *, engine: str, jobs: int | None, gpus: float | None) -> None:
    """Bring the report and all that it needs up to date, the stale cells side by side.

    Args:
        engine: the name of where they run.
        jobs: how many at once (None: as many as there is room for).
        gpus: as `Engine.run`.

    Raises:
        Refused: another DVC is at work in this folder, or there is no such engine here.
        Failed: a job failed, or what it depends on changed while it ran; the others are kept.
    """
    if ledger.is_current(RESULT):
        print("nothing is stale")
        return
    datasets = [Job(f"generate-{task}", [f"generate@{task}"]) for task in params.tasks]
    cells = [Job(name, [f"{stage}@{name}" for stage in ("train", "evaluate", "analyze")]) for name in params.ablations]
    for each in (datasets, cells):
        _run_stale(each, engine, jobs, gpus)
    _dvc("repro", "--quiet", RESULT)


def _run_stale(jobs: Sequence[Job], engine: str, workers: int | None, gpus: float | None) -> None:
    stale = ledger.stale(*(job.stages for job in jobs))
    todo = [Job(job.name, stages) for job, stages in zip(jobs, stale, strict=True) if stages]
    begun = ledger.inputs(*(job.stages for job in todo))
    failed: list[str] = []
    for job in todo:
        forget(job.name)
    commands = [Command.of_pipeline("job", job.name, *job.stages, log=log(job.name)) for job in todo]

    with View([job.name for job in todo], [len(job.stages) for job in todo]) as view:

        def end(index: int, code: int) -> None:
            job = todo[index]
            wrong = _said(job, code) if code else _changed(ledger.keep(job.stages, begun[index]))
            if wrong:
                failed.append(f"{job.name} ({wrong})")
            view.end(job.name, wrong or "done")

        if commands:
            ENGINES[engine].run(commands, workers=workers, gpus=gpus, on_end=end)
    if failed:
        raise Failed(
            f"grid: {len(failed)} of {len(todo)} jobs failed: {'; '.join(failed)}; "
            f"what the others made is kept, and the same command goes on"
        )


def _said(job: Job, code: int) -> str:
    """The last line of a job that failed."""
    lines = log(job.name).read_text(errors="replace").split("\n") if log(job.name).exists() else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return f"exit code {code}: {last.removeprefix('error: ')[:200]}; all of it: {log(job.name)}"


def _changed(names: Sequence[str]) -> str:
    return f"{', '.join(names)} changed while it ran, so that it is not kept" if names else ""


def _dvc(*arguments: str) -> None:
    """Run DVC's own command line, which finds this Python first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], env={**os.environ, "PATH": path})
    if done.returncode:
        raise Failed(f"grid: `dvc {' '.join(arguments)}` failed with exit code {done.returncode}")
