"""The class of commands, and the protocol of the engines that run commands."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, Self

PARENT_VARIABLE = "PIPELINE_PARENT"
"""Environment variable of commands whose standard input is a pipe that closes when the process of their engine ends."""
MAX_RETRIES = 3
"""Number of times that a cluster starts a command again whose machine was lost, or whose job was preempted."""
INTERRUPT_SIGNALS = {signal.SIGINT, signal.SIGTERM}
"""Signals that interrupt a command: of Ctrl-C, and of `kill`, `docker stop` and schedulers."""
CANCEL_TIMEOUT_SECONDS = 60
"""Largest number of seconds that an engine waits until commands on a cluster have ended after an interrupt."""


@dataclass(frozen=True)
class Command:
    """Command for an engine to run: a program with arguments, environment variables and a log file."""

    arguments: tuple[str, ...]
    """Path of the program, and its arguments."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables to set, besides those of the engine's process."""
    log_file: Path | None = None
    """File for output and errors, overwritten; None: output goes where the output of the engine goes."""

    @classmethod
    def pipeline_command(
        cls, *arguments: str, environment: Mapping[str, str] = {}, log_file: Path | None = None
    ) -> Self:
        """Return the command `python -m pipeline ...`."""
        return cls((sys.executable, "-m", "pipeline", *arguments), environment, log_file)

    def run(self, folder: Path, worker_environment: Mapping[str, str]) -> int:
        """Run the command in `folder` and return the command's exit code.

        KeyboardInterrupt is passed on to the command, and raised again when the command has ended.
        """
        with (
            open_log(folder / self.log_file) if self.log_file else nullcontext() as log,
            subprocess.Popen(
                self.arguments,
                cwd=folder,
                env=self.full_environment(worker_environment),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log and subprocess.STDOUT,
                start_new_session=True,
            ) as process,
        ):
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
        """Return the environment variables of this process, updated by those of the worker, then of the command."""
        return {**os.environ, **worker_environment, **self.environment, PARENT_VARIABLE: str(os.getpid())}


@dataclass(frozen=True)
class Limits:
    """How many commands an engine runs at once."""

    max_workers: int | None = None
    """Largest number of commands that run at once. None: as many as there is room for."""
    gpus_per_command: float = 1.0
    """GPUs for each command; with 0.5, two commands share one. Ignored without a GPU."""


class Engine(Protocol):
    """Protocol of the engines. The machines on which an engine runs commands must share the project's folder."""

    def run(self, commands: Sequence[Command], limits: Limits, on_command_end: Callable[[int, int], None]) -> None:
        """Run the commands in the current folder.

        After Ctrl-C, or an exception of `on_command_end`, the engine interrupts the running commands, waits until they
        have ended, and raises the exception again.

        Args:
            on_command_end: called with the index and the exit code (-9: killed by signal 9) of each command as soon as
                it has ended, in the calling thread, while others still run.
        """


def open_log(path: Path) -> BinaryIO:
    """Open a log file for writing, emptied first, and create the folder of the log file if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def exit_when_parent_exits() -> bool:
    """Interrupt this process when the engine that started it ends, and return True; return False without an engine."""
    # the variable is removed, because processes that this one starts have another parent
    if os.environ.pop(PARENT_VARIABLE, None) is None:
        return False
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the background jobs of a shell ignore the signal,
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPT_SIGNALS)  # and processes that Ray starts block it

    def interrupt_after_parent() -> None:
        os.read(0, 1)  # nothing is ever written: it returns when the parent's end is closed
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_after_parent, daemon=True).start()
    return True


@contextmanager
def delay_interrupts() -> Iterator[None]:
    """Delay interrupts until the `with` block has ended; processes started in the block do not receive them."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPT_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
