"""Print the progress of jobs and the estimated time left to stderr: as a live table on a terminal, else in lines."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.repro.state import Job, JobState

TRAINING_SHARE_OF_JOB = 0.9
"""Rough estimate of the share of a job's duration that is spent in training."""


class ProgressView:
    """Display of the progress of jobs, which are given by name."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self.jobs = jobs
        self.outcomes: dict[str, str] = {}
        self.start_time = time.monotonic()
        live = Live(get_renderable=self._build_table, console=Console(stderr=True), transient=True)
        self.live_table = live if live.console.is_terminal else None

    @contextmanager
    def display(self) -> Iterator[None]:
        """Display the progress of the jobs while the `with` block runs."""
        self._print_line(f"to run: {', '.join(self.jobs)}")
        with self.live_table or nullcontext():
            yield

    def report_end(self, job_name: str, outcome: str) -> None:
        """Print that the job has ended, with the outcome, the number of finished jobs and the estimated time left."""
        self.outcomes[job_name] = outcome
        self._print_line(f"{job_name}: {outcome}; {self._format_summary()}")

    def _print_line(self, line: str) -> None:
        if self.live_table:
            self.live_table.console.print(Text(line))
        else:
            print(line, file=sys.stderr, flush=True)

    def _read_states(self) -> dict[str, JobState]:
        """Return the last state of each running job, by name."""
        states = {name: JobState.read(name) for name in self.jobs if name not in self.outcomes}
        return {name: state for name, state in states.items() if state}

    def _format_summary(self) -> str:
        return ", ".join(filter(None, (f"{len(self.outcomes)} of {len(self.jobs)} done", self._format_time_left())))

    def _format_time_left(self) -> str:
        """Return the estimated time until all jobs have ended, in words; empty before there is any progress."""
        shares = dict.fromkeys(self.outcomes, 1.0)
        for name, state in self._read_states().items():
            shares[name] = finished_share(state, len(self.jobs[name].stage_names))
        done = sum(share * self.jobs[name].cost for name, share in shares.items())
        total = sum(job.cost for job in self.jobs.values())
        if not 0 < done < total:
            return ""
        left = (total - done) / done * (time.monotonic() - self.start_time)
        return f"about {left / 60:.0f} min left" if left > 90 else f"about {left:.0f} s left"

    def _build_table(self) -> Group:
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, state in self._read_states().items():
            step = f"step {state.step}/{state.max_steps}" if state.max_steps else ""
            table.add_row(name, state.stage_name.partition("@")[0], step, state.converged_text)
        return Group(Text(self._format_summary()), table)


def finished_share(state: JobState, stage_count: int) -> float:
    """Return the finished share, in [0, 1], of a job with `stage_count` stages; training counts most."""
    if state.max_steps:
        return (TRAINING_SHARE_OF_JOB if stage_count > 1 else 1.0) * state.step / state.max_steps
    if not state.finished_stage_count:
        return 0.0
    return 1.0 - (1.0 - TRAINING_SHARE_OF_JOB) * (stage_count - state.finished_stage_count) / max(1, stage_count - 1)
