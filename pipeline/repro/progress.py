"""Jobs of `repro`, their files (a job writes its state and its log), and the display of their progress."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Thread
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
MIN_TIMED_STEPS = 20
"""Number of training steps that must have been timed before a job's speed is known."""
LINE_INTERVAL_SECONDS = 30.0
"""Seconds between two lines about the running jobs, if the output is not a terminal."""


class Job(NamedTuple):
    """A job of `repro`: stages that one process runs, one after the other."""

    stage_names: Sequence[str]
    """Names of the job's stages in dvc.yaml, in the order in which the stages run."""
    cost: float
    """Estimated duration of the job, in an arbitrary unit: used to order jobs and to estimate the time left."""

    def with_stages(self, stage_names: Sequence[str]) -> "Job":
        """Return the job with some of its stages only; without the first, the training, it is short."""
        is_whole = self.stage_names[0] in stage_names
        return Job(stage_names, self.cost if is_whole else self.cost * (1.0 - TRAINING_SHARE_OF_JOB))


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
    start_time: float = field(default_factory=time.time)
    """Time at which the job started, in seconds since 1970."""
    start_share: float = 0.0
    """Finished share of the job when it started: that of a training that is resumed."""
    timed_share: float = 0.0
    """Share of the job that was trained in `timed_seconds`; 0 until `MIN_TIMED_STEPS` steps were timed."""
    timed_seconds: float = 0.0

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


def estimate_seconds_left(
    jobs: Mapping[str, Job], states: Mapping[str, JobState], durations: Mapping[str, float]
) -> float | None:
    """Estimate the seconds until all jobs, given by name, have ended; None until the speed of one job is known.

    Seconds per cost are those of the finished jobs, and of the running jobs as far as their training was timed. They
    hold for all jobs: a job ends early if its runs converge early, and later jobs are expected to do so as often.

    Args:
        states: last state of each job that was started.
        durations: seconds of each job that has ended; 0 if it failed.
    """
    timed = {name: (seconds, 1.0 - states[name].start_share) for name, seconds in durations.items() if seconds}
    running = {name: state for name, state in states.items() if name not in durations}
    timed |= {name: (state.timed_seconds, state.timed_share) for name, state in running.items()}
    timed_cost = sum(share * jobs[name].cost for name, (_, share) in timed.items())
    if not timed_cost:
        return None
    left = {name: job.cost for name, job in jobs.items() if name not in durations}
    for name, state in running.items():
        left[name] *= 1.0 - state.finished_share(len(jobs[name].stage_names))
    cost_left = max(sum(left.values()) / max(1, len(running)), *left.values(), 0.0)
    return cost_left * sum(seconds for seconds, _ in timed.values()) / timed_cost


class ProgressView:
    """Display of the progress of jobs, given by name, and of the time left.

    On a terminal it is a table, elsewhere a line when a job ends, and one every `LINE_INTERVAL_SECONDS`.
    """

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self.jobs = jobs
        self.durations: dict[str, float] = {}
        """Seconds of each job that has ended, by name; 0 if it failed."""
        self.console = Console(stderr=True, force_terminal=sys.stderr.isatty())  # else FORCE_COLOR would decide

    @contextmanager
    def display(self) -> Iterator[None]:
        """Display the progress of the jobs while the `with` block runs."""
        self._print_line(f"to run: {', '.join(self.jobs)}; logs in {JOB_FOLDER}/<name>.log")
        if self.console.is_terminal:
            with Live(get_renderable=self._build_table, console=self.console, transient=True):
                yield
            return
        finished = Event()
        thread = Thread(target=self._print_lines_until, args=(finished,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()

    def report_end(self, job_name: str, error: str) -> None:
        """Print that the job has ended, with its error if any, the number of jobs that have ended and the time left."""
        state = JobState.read(job_name)
        self.durations[job_name] = 0.0 if error or state is None else time.time() - state.start_time
        self._print_line(f"{job_name}: {error or 'done'}; {self._format_summary()}")

    def _print_lines_until(self, finished: Event) -> None:
        while not finished.wait(LINE_INTERVAL_SECONDS):
            rows = [" ".join(filter(None, row)) for row in self._list_running_jobs()]
            self._print_line("; ".join([*rows, self._format_summary()]))

    def _print_line(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)

    def _read_states(self) -> dict[str, JobState]:
        """Return the last state of each job that was started, by name."""
        states = {name: JobState.read(name) for name in self.jobs}
        return {name: state for name, state in states.items() if state}

    def _list_running_jobs(self) -> list[tuple[str, str, str, str]]:
        """Return name, stage, step and converged runs of each running job."""
        running = {name: state for name, state in self._read_states().items() if name not in self.durations}
        return [
            (
                name,
                state.stage_name.partition("@")[0],
                f"step {state.step}/{state.max_steps}" if state.max_steps else "",
                state.converged_text,
            )
            for name, state in running.items()
        ]

    def _format_summary(self) -> str:
        """Return the number of finished jobs and, once it is known, the estimated time until all have ended."""
        summary = f"{len(self.durations)} of {len(self.jobs)} done"
        left = estimate_seconds_left(self.jobs, self._read_states(), self.durations)
        if not left:
            return summary
        return f"{summary}, about {left / 60:.0f} min left" if left > 90 else f"{summary}, about {left:.0f} s left"

    def _build_table(self) -> Group:
        table = Table(box=None, show_header=False, pad_edge=False)
        for row in self._list_running_jobs():
            table.add_row(*row)
        return Group(Text(self._format_summary()), table)
