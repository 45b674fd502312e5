"""The class of commands, and the protocol of the engines that run commands."""

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

PARENT_VARIABLE = "PIPELINE_PARENT"
"""Environment variable that an engine sets for each command, so that the command ends when the engine's process ends.

The standard input of the command is then a pipe that closes at that moment.
"""
STDIN, STDOUT, STDERR = 0, 1, 2
MAX_RETRIES = 3
"""Number of times that a cluster starts a command again whose machine was lost, or whose job was preempted."""
CANCEL_TIMEOUT_SECONDS = 60
"""Largest number of seconds that an engine waits until commands on a cluster have ended after an interrupt."""

CommandEndCallback = Callable[[int, int], None]
"""Function that an engine calls with the index and the exit code of each command that has ended."""


@dataclass(frozen=True)
class Command:
    """Command for an engine to run: a program with arguments, environment variables and a log file."""

    arguments: tuple[str, ...]
    """Path of the program, and the arguments of the program."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables to set, besides those of the engine's process."""
    log_file: Path | None = None
    """File for output and errors, overwritten; None: output goes where the output of the engine goes."""

    @classmethod
    def pipeline_command(
        cls, *arguments: str, environment: Mapping[str, str] | None = None, log_file: Path | None = None
    ) -> "Command":
        """Return the command `python -m pipeline ...`."""
        return cls((sys.executable, "-m", "pipeline", *arguments), environment or {}, log_file)

    @property
    def module_name(self) -> str | None:
        """Name of the Python module that the command runs, or None if the command is not `python -m MODULE ...`."""
        return self.arguments[2] if self.arguments[:2] == (sys.executable, "-m") else None

    def run(self, folder: Path, worker_environment: Mapping[str, str]) -> int:
        """Run the command in `folder` and return the command's exit code.

        KeyboardInterrupt is passed on to the command, and raised again when the command has ended.
        """
        with ExitStack() as stack:
            log = None if self.log_file is None else stack.enter_context(open_log(folder / self.log_file))
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
        """Return the environment variables of this process, updated by those of the worker, then of the command."""
        return {**os.environ, **worker_environment, **self.environment, PARENT_VARIABLE: str(os.getpid())}


class Engine(Protocol):
    """Protocol of the engines. The machines on which an engine runs commands must share the project's folder."""

    def run(
        self,
        commands: Sequence[Command],
        *,
        max_workers: int | None,
        gpus_per_command: float | None,
        on_command_end: CommandEndCallback | None = None,
    ) -> list[int]:
        """Run the commands in the current folder and return the exit code of each command (-9: killed by signal 9).

        After Ctrl-C, or an exception of `on_command_end`, the engine interrupts the running commands, waits until they
        have ended, and raises the exception again.

        Args:
            max_workers: largest number of commands that run at once. None: as many as there is room for.
            gpus_per_command: GPUs for each command; with 0.5, two commands share one. None: 1. Ignored without a GPU.
            on_command_end: called in the calling thread as soon as a command has ended, while others still run.
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
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # and processes that Ray starts block it

    def interrupt_after_parent() -> None:
        os.read(STDIN, 1)  # nothing is ever written: it returns when the parent's end is closed
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_after_parent, daemon=True).start()
    return True


@contextmanager
def delay_interrupts() -> Iterator[None]:
    """Delay Ctrl-C until the `with` block has ended; processes started in the block do not receive Ctrl-C."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
