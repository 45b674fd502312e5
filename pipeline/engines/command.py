"""A command as a process that does not outlive whoever runs it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PARENT = "PIPELINE_PARENT"
"""Set for a process that must end with the one that started it, which holds the other end of its standard input."""


@dataclass(frozen=True)
class Command:
    """What is to be run, and what its environment must say beside what it finds."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_pipeline(cls, *arguments: str, **environment: str) -> "Command":
        """`python -m pipeline ...`."""
        return cls((sys.executable, "-m", "pipeline", *arguments), environment)

    def start(self, place: Mapping[str, str], folder: Path | None = None) -> subprocess.Popen[bytes]:
        """Begin it in `folder` (None: here), where `place` says which devices are its own; the command's own
        environment comes first."""
        return subprocess.Popen(
            self.arguments,
            cwd=folder,
            env={**os.environ, **place, **self.environment, PARENT: str(os.getpid())},
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal comes to the engine alone, which passes it on once
        )


def end_with_parent() -> bool:
    """In a process that an engine started: be interrupted when the engine is gone, however it went. Whether this is
    one."""
    if os.environ.pop(PARENT, None) is None:  # no longer said: what this process starts has another parent
        return False
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it,
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # and what Ray starts never hears it

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)  # nothing is ever sent: it returns when the other end is closed
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()
    return True
