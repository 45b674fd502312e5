"""Whole experiments, to be put in place of `params.yaml`."""

import subprocess
from pathlib import Path

from pipeline import files
from pipeline.errors import UserError
from pipeline.params import PARAMS_FILE
from pipeline.params.config import shorten

PRESETS = {path.stem: path.read_text() for path in sorted(Path(__file__).parent.glob("*.yaml"))}
"""Name -> the file's content."""


def put_in_place(name: str, *, force: bool = False) -> None:
    """Make `params.yaml` the preset `name`; with `force` also where it holds changes that nobody else has.

    Raises:
        UserError: there is no such preset, or it would overwrite changes.
    """
    if name not in PRESETS:
        raise UserError(f"preset {shorten(name)}: there is none (allowed: {', '.join(PRESETS)})")
    if PARAMS_FILE.exists() and not force:
        there = PARAMS_FILE.read_bytes()
        if there not in (text.encode() for text in PRESETS.values()) and there != _committed(PARAMS_FILE):
            raise UserError(
                f"{PARAMS_FILE}: holds changes of your own, which preset {name!r} would overwrite; "
                f"keep a copy and give --force"
            )
    files.write_text(PARAMS_FILE, PRESETS[name])


def _committed(path: Path) -> bytes | None:
    """What git has committed of the file; None where there is no git, no repository, or no such file in it."""
    try:
        return subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
