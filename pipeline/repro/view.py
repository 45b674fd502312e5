"""Progress of the jobs on stderr, and an estimate of the time left: a live table on a terminal, else a line per job."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.repro.state import Job, JobState

TRAINING_SHARE = 0.9
"""Rough share of the training in the duration of a job."""


class View:
    """Shows the progress of jobs, given by name."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self.jobs = jobs
        self.outcomes: dict[str, str] = {}
        self.started = time.monotonic()
        console = Console(stderr=True)
        self.live = Live(get_renderable=self._table, console=console, transient=True) if console.is_terminal else None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress until the end of the block."""
        self._print(f"to run: {', '.join(self.jobs)}")
        with self.live or nullcontext():
            yield

    def end(self, job: str, outcome: str) -> None:
        """Show that a job has ended, and its outcome."""
        self.outcomes[job] = outcome
        self._print(f"{job}: {outcome}; {self._summary()}")

    def _print(self, line: str) -> None:
        if self.live:
            self.live.console.print(Text(line))
        else:
            print(line, file=sys.stderr, flush=True)

    def _states(self) -> dict[str, JobState]:
        """States of the running jobs."""
        states = {job: JobState.read(job) for job in self.jobs if job not in self.outcomes}
        return {job: state for job, state in states.items() if state}

    def _summary(self) -> str:
        return ", ".join(filter(None, (f"{len(self.outcomes)} of {len(self.jobs)} done", self._time_left())))

    def _time_left(self) -> str:
        """Estimated time left, in words; empty if there is no estimate or nothing left."""
        shares = dict.fromkeys(self.outcomes, 1.0)
        shares |= {job: share_done(state, len(self.jobs[job].stages)) for job, state in self._states().items()}
        done = sum(share * self.jobs[job].cost for job, share in shares.items())
        total = sum(job.cost for job in self.jobs.values())
        if not 0 < done < total:
            return ""
        left = (total - done) / done * (time.monotonic() - self.started)
        return f"about {left / 60:.0f} min left" if left > 90 else f"about {left:.0f} s left"

    def _table(self) -> Group:
        table = Table(box=None, show_header=False, pad_edge=False)
        for job, state in self._states().items():
            step = f"step {state.step}/{state.steps}" if state.steps else ""
            table.add_row(job, state.stage.partition("@")[0], step, state.converged)
        return Group(Text(self._summary()), table)


def share_done(state: JobState, stages: int) -> float:
    """Return which share of a job with `stages` stages is done, in [0, 1]. The training counts `TRAINING_SHARE`."""
    if state.steps:
        return (TRAINING_SHARE if stages > 1 else 1.0) * state.step / state.steps
    if not state.stages_done:
        return 0.0
    return 1.0 - (1.0 - TRAINING_SHARE) * (stages - state.stages_done) / max(1, stages - 1)
