"""Jobs of `repro`, their files (a job writes its state and its log), and the display of their progress."""

import json
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline import files

JOB_FOLDER = Path(".repro")
"""Folder for the states and logs of the jobs of the last `repro`."""
LINE_INTERVAL_SECONDS = 30.0
"""Seconds between two lines about the running jobs, if the output is not a terminal."""


@dataclass(frozen=True)
class JobState:
    """State of a running job: the current stage, and the progress of the training."""

    stage_name: str
    """Name in dvc.yaml of the stage that the job is running."""
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


class ProgressView:
    """Display of the progress of jobs, given by name.

    On a terminal it is a table, elsewhere a line when a job ends, and one every `LINE_INTERVAL_SECONDS`.
    """

    def __init__(self, jobs: Collection[str]) -> None:
        self.jobs = jobs
        self.ended: set[str] = set()
        """Names of the jobs that have ended."""
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
        """Print that the job has ended, with its error if any, and the number of jobs that have ended."""
        self.ended.add(job_name)
        self._print_line(f"{job_name}: {error or 'done'}; {self._format_summary()}")

    def _print_lines_until(self, finished: Event) -> None:
        while not finished.wait(LINE_INTERVAL_SECONDS):
            rows = [" ".join(filter(None, row)) for row in self._list_running_jobs()]
            self._print_line("; ".join([*rows, self._format_summary()]))

    def _print_line(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)

    def _list_running_jobs(self) -> list[tuple[str, str, str, str]]:
        """Return name, stage, step and converged runs of each running job."""
        states = {name: JobState.read(name) for name in self.jobs if name not in self.ended}
        return [
            (
                name,
                state.stage_name.partition("@")[0],
                f"step {state.step}/{state.max_steps}" if state.max_steps else "",
                state.converged_text,
            )
            for name, state in states.items()
            if state
        ]

    def _format_summary(self) -> str:
        return f"{len(self.ended)} of {len(self.jobs)} done"

    def _build_table(self) -> Group:
        table = Table(box=None, show_header=False, pad_edge=False)
        for row in self._list_running_jobs():
            table.add_row(*row)
        return Group(Text(self._format_summary()), table)
