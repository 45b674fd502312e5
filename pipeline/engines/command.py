"""A command as a process that does not outlive whoever runs it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

PARENT = "PIPELINE_PARENT"
"""Set for a process that must end with the one that started it, which holds the other end of its standard input."""
STDIN, STDOUT, STDERR = 0, 1, 2

OnEnd = Callable[[int, int], None]
"""Told which command has ended, by its place among all, and with which exit code."""


def ignore_end(index: int, code: int) -> None:
    """Nobody wants to know that a command has ended."""


@dataclass(frozen=True)
class Command:
    """What is to be run, what its environment must say beside what it finds, and which file takes what it says
    (output and errors, from the file's beginning; None: it says that where its engine does)."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None

    @classmethod
    def pipeline_command(
        cls, *arguments: str, environment: Mapping[str, str] | None = None, log: Path | None = None
    ) -> "Command":
        """`python -m pipeline ...`."""
        return cls((sys.executable, "-m", "pipeline", *arguments), environment or {}, log)

    @property
    def module(self) -> str | None:
        """The Python module that it runs, if it is `python -m MODULE ...`."""
        return self.arguments[2] if self.arguments[:2] == (sys.executable, "-m") else None

    def start(self, place: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
        """Begin it in `folder`, where `place` says which devices are its own; the command's own environment comes
        first."""
        with ExitStack() as opened:
            log = None if self.log is None else opened.enter_context(open_log(folder / self.log))
            return subprocess.Popen(
                self.arguments,
                cwd=folder,
                env={**os.environ, **self.surroundings(place)},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log and subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal comes to the engine alone, which passes it on once
            )

    def surroundings(self, place: Mapping[str, str]) -> dict[str, str]:
        """What its environment says beside what it finds, at this place."""
        return {**place, **self.environment, PARENT: str(os.getpid())}


def open_log(path: Path) -> BinaryIO:
    """The file, empty, and its folder if there is none yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def end_with_parent() -> bool:
    """In a process that an engine started: be interrupted when the engine is gone, however it went. Whether this is
    one."""
    if os.environ.pop(PARENT, None) is None:  # no longer said: what this process starts has another parent
        return False
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it,
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # and what Ray starts never hears it

    def watch() -> None:
        os.read(STDIN, 1)  # nothing is ever sent: it returns when the other end is closed
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()
    return True
