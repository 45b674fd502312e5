"""Jobs of `repro`, and the files of a job: the state, which the job writes and `repro` reads, and the log."""

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

STATE_FOLDER = Path(".repro")
"""Folder for the states and logs of the jobs of the last `repro`."""


@contextmanager
def lock_experiment() -> Iterator[None]:
    """Lock the current folder, so that one `repro` at a time runs there; the lock ends with the process.

    Raises:
        UserError: another `repro` is running.
    """
    owner = STATE_FOLDER / "process"
    STATE_FOLDER.mkdir(exist_ok=True)
    try:
        with FileLock(STATE_FOLDER / "lock", blocking=False):
            files.write_text(owner, f"{os.getpid()}\n")
            yield
    except Timeout:
        process = owner.read_text().strip() if owner.exists() else "unknown"
        raise UserError(f"repro: already running in this folder (process {process}); wait for it to end") from None


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
    """Number of stages that the job has finished."""
    step: int = 0
    """Current step of the training; 0 in other stages."""
    max_steps: int = 0
    """Largest number of steps of the training; 0 in other stages."""
    converged_text: str = ""
    """Number of runs of the training that have converged, in words."""

    def write(self, job_name: str) -> None:
        """Write this state to the job's state file, atomically."""
        files.write_json(STATE_FOLDER / f"{job_name}.json", asdict(self))

    @classmethod
    def read(cls, job_name: str) -> "JobState | None":
        """Return the job's last state, or None if the job has not written any."""
        try:
            return cls(**json.loads((STATE_FOLDER / f"{job_name}.json").read_text()))
        except FileNotFoundError:
            return None


def log_file_path(job_name: str) -> Path:
    """Return the path of the file with the job's output."""
    return STATE_FOLDER / f"{job_name}.log"


def delete_job_files(job_name: str) -> None:
    """Delete the state file and the log file of the job."""
    for path in (STATE_FOLDER / f"{job_name}.json", log_file_path(job_name)):
        path.unlink(missing_ok=True)
