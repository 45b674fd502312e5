"""Jobs, and how far they are: a small file that the job writes and whoever waits for it reads."""

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
"""States and logs, of the last grid that ran here."""


@contextmanager
def exclusive_access() -> Iterator[None]:
    """One grid at a time in this folder. The system lets go of the lock when its process ends, however that ends.

    Raises:
        UserError: another is at work.
    """
    owner = FOLDER / "process"
    FOLDER.mkdir(exist_ok=True)
    try:
        with FileLock(FOLDER / "lock", blocking=False):
            files.write_text(owner, f"{os.getpid()}\n")
            yield
    except Timeout:
        who = owner.read_text().strip() if owner.exists() else "unknown"
        raise UserError(f"grid: another one is at work in this folder (process {who}); wait for it to end") from None


class Job(NamedTuple):
    """What one process runs."""

    stages: Sequence[str]
    """Their names in dvc.yaml, one after the other."""
    cost: float
    """How long that takes, in proportion to the others."""


@dataclass(frozen=True)
class State:
    """A job and the stage that it is at."""

    stage: str
    """Its name in dvc.yaml."""
    place: int
    """How many of the job's stages have ended."""
    step: int = 0
    steps: int = 0
    """Of training, where the stage trains."""
    converged: str = ""
    """How many members have, in words."""

    def write(self, job: str) -> None:
        """Say it, at once or not at all."""
        files.write_json(FOLDER / f"{job}.json", asdict(self))

    @classmethod
    def read(cls, job: str) -> "State | None":
        """What was last said of it; None as long as that is nothing."""
        try:
            return cls(**json.loads((FOLDER / f"{job}.json").read_text()))
        except FileNotFoundError:
            return None


def log(job: str) -> Path:
    """What the job says, and says last if it fails."""
    return FOLDER / f"{job}.log"


def clear(job: str) -> None:
    """As if it had never run."""
    for path in (FOLDER / f"{job}.json", log(job)):
        path.unlink(missing_ok=True)
