"""What a person sees who waits for a grid: one live table on a terminal, a line per job elsewhere; both on stderr."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.repro.state import Job, State

TRAINING = 0.9
"""The share of an ablation's time that its training takes, roughly."""


class View:
    """Use as a context, while the jobs run.

    Args:
        jobs: by their names.
        pace: costs a second, where a grid was timed before.
    """

    def __init__(self, jobs: Mapping[str, Job], pace: float | None = None) -> None:
        self.jobs, self.pace = jobs, pace
        self.ended: dict[str, str] = {}
        self.started = time.monotonic()
        console = Console(stderr=True)
        self.live = Live(get_renderable=self._table, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        self._say(f"to run: {', '.join(self.jobs)}; {self._left() or 'the first will say how long that takes'}")
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, of: TracebackType | None) -> None:
        if self.live:
            self.live.stop()

    def end(self, job: str, outcome: str) -> None:
        """Show that a job has ended, and how."""
        self.ended[job] = outcome
        self._say(f"{job}: {outcome}; {self._summary()}")

    @property
    def cost(self) -> float:
        """Of what is done."""
        shares = dict.fromkeys(self.ended, 1.0)
        shares |= {job: share_done(state, len(self.jobs[job].stages)) for job, state in self._states().items()}
        return sum(share * self.jobs[job].cost for job, share in shares.items())

    @property
    def seconds(self) -> float:
        """Since it was begun."""
        return time.monotonic() - self.started

    def _say(self, line: str) -> None:
        if self.live:
            self.live.console.print(Text(line))
        else:
            print(line, file=sys.stderr, flush=True)

    def _states(self) -> dict[str, State]:
        """Of the jobs that have begun and not ended."""
        found = {job: State.read(job) for job in self.jobs if job not in self.ended}
        return {job: state for job, state in found.items() if state}

    def _summary(self) -> str:
        return ", ".join(filter(None, (f"{len(self.ended)} of {len(self.jobs)} done", self._left())))

    def _left(self) -> str:
        """How long it will take; empty if nobody knows, or nothing is left."""
        done, all_of_it = self.cost, sum(job.cost for job in self.jobs.values())
        pace = done / self.seconds if done else self.pace
        left = (all_of_it - done) / pace if pace else 0.0
        return "" if left <= 0 else f"about {left / 60:.0f} min left" if left > 90 else f"about {left:.0f} s left"

    def _table(self) -> Group:
        table = Table(box=None, show_header=False, pad_edge=False)
        for job, state in self._states().items():
            training = state.steps > 0
            table.add_row(
                job,
                state.stage.partition("@")[0],
                f"step {state.step}/{state.steps}" if training else "",
                state.converged,
            )
        return Group(Text(self._summary()), table)


def share_done(state: State, stages: int) -> float:
    """How much of a job of that many stages is done, between 0 and 1: a training most of it, the others alike."""
    if state.steps:
        return (TRAINING if stages > 1 else 1.0) * state.step / state.steps
    return 1.0 - (1.0 - TRAINING) * (stages - state.place) / max(1, stages - 1) if state.place else 0.0
