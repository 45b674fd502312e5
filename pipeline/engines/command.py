"""A command, and the protocol of the engines that run it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

PARENT = "PIPELINE_PARENT"
"""Set for a process that must end with the process that started it. The parent holds the write end of the pipe that is
the process's standard input."""
STDIN, STDOUT, STDERR = 0, 1, 2

OnEnd = Callable[[int, int], None]
"""Called with the index and the exit code of a command that has ended."""


@dataclass(frozen=True)
class Command:
    """Arguments (the program first), environment variables to set, and the file for output and errors.

    The file is overwritten. Without one, output goes where the output of the engine goes.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None

    @classmethod
    def pipeline_command(
        cls, *arguments: str, environment: Mapping[str, str] | None = None, log: Path | None = None
    ) -> "Command":
        """Return the command `python -m pipeline ...`."""
        return cls((sys.executable, "-m", "pipeline", *arguments), environment or {}, log)

    @property
    def module(self) -> str | None:
        """Name of the Python module to run, or None if the command is not `python -m MODULE ...`."""
        return self.arguments[2] if self.arguments[:2] == (sys.executable, "-m") else None

    def run(self, folder: Path, worker_environment: Mapping[str, str]) -> int:
        """Run the command in `folder` and return its exit code; pass on KeyboardInterrupt to it and wait for it."""
        with ExitStack() as stack:
            log = None if self.log is None else stack.enter_context(open_log(folder / self.log))
            process = stack.enter_context(
                subprocess.Popen(
                    self.arguments,
                    cwd=folder,
                    env=self.full_environment(worker_environment),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log and subprocess.STDOUT,
                    start_new_session=True,
                )
            )
            while True:
                try:
                    return process.wait(timeout=0.2)  # Ray's cancellation arrives between two calls only
                except subprocess.TimeoutExpired:
                    continue
                except KeyboardInterrupt:
                    process.send_signal(signal.SIGINT)
                    process.wait()
                    raise

    def full_environment(self, worker_environment: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of this process, updated by the worker's (devices, threads), then by the command's."""
        return {**os.environ, **worker_environment, **self.environment, PARENT: str(os.getpid())}


class Engine(Protocol):
    """Runs commands. Other machines must see the project's folder under the same path."""

    def run(
        self, commands: Sequence[Command], *, workers: int | None, gpus: float | None, on_end: OnEnd | None = None
    ) -> list[int]:
        """Run the commands in the current folder and return their exit codes, in order (-9: killed by signal 9).

        Ctrl-C, or an exception of `on_end`, interrupts the commands that run, waits for them and is raised again. No
        command outlives the call.

        Args:
            workers: how many commands run at once. None: as many as there is room for.
            gpus: GPUs for each command; with 0.5, two commands share one. None: 1. Ignored if there is no GPU.
            on_end: called in the calling thread as soon as a command has ended, while others still run.
        """


def open_log(path: Path) -> BinaryIO:
    """Open the file for writing, empty; create its folder if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def end_with_parent() -> bool:
    """Interrupt this process as soon as the engine that started it has ended. Return whether an engine started it."""
    if os.environ.pop(PARENT, None) is None:  # removed, because processes that this one starts have another parent
        return False
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the background jobs of a shell ignore the signal,
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # and processes that Ray starts block it

    def wait_for_parent() -> None:
        os.read(STDIN, 1)  # nothing is ever written: it returns when the parent's end is closed
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait_for_parent, daemon=True).start()
    return True


@contextmanager
def interrupts_delayed() -> Iterator[None]:
    """Deliver Ctrl-C at the end of the block. Processes started in the block do not receive it from the terminal."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
