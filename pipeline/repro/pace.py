"""How fast grids went on this machine, so that the next one says at its start how long it will take."""

import platform
from pathlib import Path

from pipeline import files
from pipeline.errors import UserError

FILE = Path(__file__).parents[2] / ".repro" / "pace.json"
"""Of the project, for its studies too."""
LEAST_SECONDS = 60.0
"""What took less says little of what takes long."""


def measured(engine: str, jobs: int | None) -> float | None:
    """Costs (`Job.cost`) a second, of the last grid that ran here like this; None: there was none."""
    return _known().get(_here(engine, jobs))


def store(engine: str, jobs: int | None, cost: float, seconds: float) -> None:
    """So much cost took so long here."""
    if cost and seconds >= LEAST_SECONDS:
        files.write_json(FILE, _known() | {_here(engine, jobs): cost / seconds})


def _here(engine: str, jobs: int | None) -> str:
    return f"{platform.node()}, {engine}, {jobs or 'auto'} at once"


def _known() -> dict[str, float]:
    try:
        return {str(key): float(value) for key, value in files.read_json(FILE, made_by="a grid").items()}
    except (UserError, ValueError, TypeError, AttributeError):  # a guess that cannot be read is no guess
        return {}
