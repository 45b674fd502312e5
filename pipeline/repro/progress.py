"""Jobs of `repro`, their files (a job writes its state and its log), and the display of their progress."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline import files

JOB_FOLDER = Path(".repro")
"""Folder for the states and logs of the jobs of the last `repro`."""
TRAINING_SHARE_OF_JOB = 0.9
"""Rough estimate of the share of a job's duration that is spent in training."""


class Job(NamedTuple):
    """A job of `repro`: stages that one process runs, one after the other."""

    stage_names: Sequence[str]
    """Names of the job's stages in dvc.yaml, in the order in which the stages run."""
    cost: float
    """Estimated duration of the job, in an arbitrary unit: used to order jobs and to estimate the time left."""


@dataclass(frozen=True)
class JobState:
    """State of a running job: the current stage, and the progress of the training."""

    stage_name: str
    """Name in dvc.yaml of the stage that the job is running."""
    finished_stage_count: int
    step: int = 0
    """Current step of the training; 0 in other stages."""
    max_steps: int = 0
    """Largest number of steps of the training; 0 in other stages."""
    converged_text: str = ""
    """Number of runs of the training that have converged, in words."""

    def write(self, job_name: str) -> None:
        """Write this state to the job's state file, atomically."""
        files.write_json(JOB_FOLDER / f"{job_name}.json", asdict(self))

    @classmethod
    def read(cls, job_name: str) -> "JobState | None":
        """Return the job's last state, or None if the job has not written any."""
        path = JOB_FOLDER / f"{job_name}.json"
        return cls(**json.loads(path.read_text())) if path.exists() else None

    def finished_share(self, stage_count: int) -> float:
        """Return the finished share, in [0, 1], of a job with `stage_count` stages; training counts most."""
        if self.max_steps:
            return (TRAINING_SHARE_OF_JOB if stage_count > 1 else 1.0) * self.step / self.max_steps
        if not self.finished_stage_count:
            return 0.0
        left = (stage_count - self.finished_stage_count) / max(1, stage_count - 1)
        return 1.0 - (1.0 - TRAINING_SHARE_OF_JOB) * left


class ProgressView:
    """Display of the progress of jobs, given by name, and of the time left: on a terminal as a table, else in lines."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self.jobs = jobs
        self.outcomes: dict[str, str] = {}
        self.start_time = time.monotonic()
        self.console = Console(stderr=True)

    @contextmanager
    def display(self) -> Iterator[None]:
        """Display the progress of the jobs while the `with` block runs."""
        self._print_line(f"to run: {', '.join(self.jobs)}")
        is_terminal = self.console.is_terminal  # elsewhere the table is not shown
        with Live(get_renderable=self._build_table, console=self.console, transient=True, auto_refresh=is_terminal):
            yield

    def report_end(self, job_name: str, outcome: str) -> None:
        """Print that the job has ended, with the outcome, the number of finished jobs and the estimated time left."""
        self.outcomes[job_name] = outcome
        self._print_line(f"{job_name}: {outcome}; {self._format_summary()}")

    def _print_line(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)

    def _read_states(self) -> dict[str, JobState]:
        """Return the last state of each running job, by name."""
        states = {name: JobState.read(name) for name in self.jobs if name not in self.outcomes}
        return {name: state for name, state in states.items() if state}

    def _format_summary(self) -> str:
        """Return the number of finished jobs and, once there is progress, the estimated time until all have ended."""
        summary = f"{len(self.outcomes)} of {len(self.jobs)} done"
        shares = dict.fromkeys(self.outcomes, 1.0)
        for name, state in self._read_states().items():
            shares[name] = state.finished_share(len(self.jobs[name].stage_names))
        done = sum(share * self.jobs[name].cost for name, share in shares.items())
        total = sum(job.cost for job in self.jobs.values())
        if not 0 < done < total:
            return summary
        left = (total - done) / done * (time.monotonic() - self.start_time)
        return f"{summary}, about {left / 60:.0f} min left" if left > 90 else f"{summary}, about {left:.0f} s left"

    def _build_table(self) -> Group:
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, state in self._read_states().items():
            step = f"step {state.step}/{state.max_steps}" if state.max_steps else ""
            table.add_row(name, state.stage_name.partition("@")[0], step, state.converged_text)
        return Group(Text(self._format_summary()), table)
