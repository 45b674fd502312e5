"""Engine: processes of this machine, each with its own device and threads."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from pipeline.engines import machine
from pipeline.engines.command import Command, OnEnd, ignore_end
from pipeline.engines.forkserver import INTERRUPT
from pipeline.errors import RunError


def run(
    commands: Sequence[Command], *, workers: int | None, gpus: float | None, on_end: OnEnd = ignore_end
) -> list[int]:
    """As `Engine.run`; GPUs are dealt out in turn.

    Raises:
        RunError: the process that starts the commands was killed.
    """
    count = workers or machine.capacity(gpus)
    free = machine.worker_environments(count)
    running: dict[int, dict[str, str]] = {}
    codes: dict[int, int] = {}
    slow = sum(command.module is not None for command in commands) > 1  # for a single one it would save nothing
    with _server(machine.thread_variables(count), slow=slow) as server:
        for index, command in enumerate(commands):
            running[index] = free.pop(0)
            server.send((index, command, command.surroundings(running[index])))
            while running and (not free or index == len(commands) - 1):
                ended, code = _answer(server)
                free.append(running.pop(ended))
                codes[ended] = code
                on_end(ended, code)
    return [codes[index] for index in range(len(commands))]


@contextmanager
def _server(threads: Mapping[str, str], *, slow: bool) -> Iterator[Connection]:
    """A fork server, and the pipe to it. When the block is left by Ctrl-C, or any other exception, the commands that
    run are interrupted and waited for."""
    pipe, its_end = Pipe()
    script = f"from pipeline.engines.forkserver import serve; serve({its_end.fileno()}, slow={slow})"
    with (
        pipe,
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, **threads},
            stdin=subprocess.PIPE,
            pass_fds=[its_end.fileno()],
            start_new_session=True,  # Ctrl-C in a terminal comes to the engine alone
        ) as process,
    ):
        its_end.close()
        try:
            _answer(pipe)
        except BaseException:
            process.kill()  # it runs nothing yet
            raise
        try:
            yield pipe
        except BaseException:
            with suppress(OSError):
                pipe.send(INTERRUPT)
            process.wait()
            raise
        finally:
            pipe.close()  # and so the server goes


def _answer(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except (EOFError, OSError):
        raise RunError("--engine processes: the process that starts the commands was killed") from None
