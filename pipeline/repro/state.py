"""Jobs and their states: a small file that the job writes and `repro` reads."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from pipeline import files
from pipeline.errors import UserError

FOLDER = Path(".repro")
"""For states and logs of the last `repro` in this folder."""


@contextmanager
def exclusive_access() -> Iterator[None]:
    """Let one `repro` at a time run in this folder. The system releases the lock when the process ends.

    Raises:
        UserError: another `repro` is running.
    """
    owner = FOLDER / "process"
    FOLDER.mkdir(exist_ok=True)
    try:
        with FileLock(FOLDER / "lock", blocking=False):
            files.write_text(owner, f"{os.getpid()}\n")
            yield
    except Timeout:
        process = owner.read_text().strip() if owner.exists() else "unknown"
        raise UserError(f"repro: already running in this folder (process {process}); wait for it to end") from None


class Job(NamedTuple):
    """Stages that one process runs."""

    stages: Sequence[str]
    """Names in dvc.yaml, in the order in which they run."""
    cost: float
    """Estimated duration, in an arbitrary unit."""


@dataclass(frozen=True)
class JobState:
    """The current stage of a job and its progress."""

    stage: str
    """Name in dvc.yaml."""
    stages_done: int
    """Number of the job's stages that have ended."""
    step: int = 0
    steps: int = 0
    """Current step, and budget of the training; both 0 in other stages."""
    converged: str = ""
    """Number of runs that have converged, in words."""

    def write(self, job: str) -> None:
        """Write the job's state atomically."""
        files.write_json(FOLDER / f"{job}.json", asdict(self))

    @classmethod
    def read(cls, job: str) -> "JobState | None":
        """Return the job's last state, or None before its first report."""
        try:
            return cls(**json.loads((FOLDER / f"{job}.json").read_text()))
        except FileNotFoundError:
            return None


def log_path(job: str) -> Path:
    """Return the file for the job's output."""
    return FOLDER / f"{job}.log"


def clear(job: str) -> None:
    """Remove the job's state and log."""
    for path in (FOLDER / f"{job}.json", log_path(job)):
        path.unlink(missing_ok=True)
