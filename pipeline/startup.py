"""What the command line does before a command: it adapts the process to the user, the locale and the terminal."""

import getpass
import os
import sys
import tempfile
from io import TextIOWrapper
from pathlib import Path

from pipeline.errors import UserError
from pipeline.stages import DATA, MODELS, REPORTS

FORCED_TERMINAL_VARIABLES = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
"""Environment variables that make the library rich draw moving tables into a log file."""


def adapt_to_environment() -> None:
    """Make commands work for a user without a name or home (`docker run --user 4321`), in any locale, in a log file.

    Commands that this process starts inherit the environment variables.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # an OSError from Python 3.13 on
        os.environ["USER"] = str(os.getuid())
    home = os.path.expanduser("~")
    if home == "~" or (home == "/" and not os.access(home, os.W_OK)):  # unknown, or what docker gives the unknown
        os.environ["HOME"] = _create_home()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # UTF-8 as all files
    if not sys.stderr.isatty():
        for name in FORCED_TERMINAL_VARIABLES:
            os.environ.pop(name, None)


def _create_home() -> str:
    """Create a folder that only this user can read, for caches, and return its path."""
    folder = Path(tempfile.gettempdir(), f"home-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return str(folder) if folder.lstat().st_uid == os.getuid() else "/"


def refuse_linked_folders() -> None:
    """Raise a UserError if a folder of results is a link: DVC would fail after the training, and save nothing."""
    for folder in filter(Path.is_symlink, (DATA, MODELS, REPORTS)):
        raise UserError(
            f"{folder}: is a link to {folder.readlink()}, where DVC cannot save results; make it a folder, and put "
            f"DVC's cache there: `dvc cache dir {folder.resolve()}` and `dvc config cache.type symlink`"
        )
