"""Commands as forks of a process that has done its imports, as the jobs of a grid are: a dozen take no longer than two
that are started, and one that is killed at a random moment is seldom killed importing."""

import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import psutil

from pipeline.engines import machine, processes
from pipeline.engines.command import Command

PATIENCE = 400.0
"""Seconds that a command may take."""
Run = Callable[..., tuple[int, str]]


@contextmanager
def forks(folder: Path, module: str = "pipeline") -> Iterator[Run]:
    """Runs `python -m pipeline ...` (or another module, of `folder`) in `folder`: `run(*arguments, after, seconds)`
    gives its exit code and what it said; it is killed so many seconds after it has said something."""
    log, place = folder / "log", machine.thread_variables(1)
    with chdir(folder), processes._server(place, slow=True) as server:
        (parent,) = (child for child in psutil.Process().children() if "serve(" in " ".join(child.cmdline()))

        def run(*arguments: str, after: str = "", seconds: float = PATIENCE) -> tuple[int, str]:
            command = Command((sys.executable, "-m", module, *arguments), log=log)
            log.unlink(missing_ok=True)
            server.send((0, command, command.surroundings(place)))
            while not ((log.exists() and after in log.read_text()) or server.poll(0.01)):
                pass
            if not server.poll(seconds):
                for fork in parent.children():
                    fork.kill()
            _, code = server.recv()
            return code, log.read_text()

        yield run
