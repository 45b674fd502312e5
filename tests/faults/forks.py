"""Commands as forks of a process that has done the imports, as the jobs of `repro` are.

A dozen of them take no longer than two that import for themselves, and one that is killed at a random moment is seldom
killed while it imports.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from pipeline.engines import machine, processes
from pipeline.engines.command import Command

PATIENCE = 400.0
"""Seconds that a command may take."""
Run = Callable[..., tuple[int, str]]


@contextmanager
def forks(folder: Path, module: str = "pipeline") -> Iterator[Run]:
    """Yield `run(*arguments, after, seconds)`, which runs `python -m pipeline ...` (or another module) in `folder`.

    It returns the exit code and the output. The command is killed `seconds` after its output contains `after`.
    """
    log, threads = folder / "log", machine.thread_environment(1)

    def run(*arguments: str, after: str = "", seconds: float = PATIENCE) -> tuple[int, str]:
        log.unlink(missing_ok=True)
        process = processes.start_process(Command((sys.executable, "-m", module, *arguments), log_file=log), threads)
        while process.is_alive() and not (log.exists() and after in log.read_text()):
            time.sleep(0.01)
        process.join(seconds)
        process.kill()
        process.join()
        return processes.get_exit_code(process), log.read_text()

    with chdir(folder):
        processes.start_fork_server(threads)
        yield run
