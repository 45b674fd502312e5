"""Engine: processes of this machine, each with its own device and threads.

`python -m pipeline train` spends seconds in imports. Here the fork server of `multiprocessing` imports the slow
libraries once, and every command starts as a fork of it.
"""

import atexit
import gc
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from pipeline.engines import machine
from pipeline.engines.command import STDERR, STDIN, STDOUT, Command, OnEnd, interrupts_delayed, open_log
from pipeline.errors import RunError

CONTEXT = get_context("forkserver")
SLOW_IMPORTS = [
    "pytorch_lightning",
    "torch._dynamo",  # needed to count FLOPs
    "pandas",
    "scipy.stats",
    "optuna",
    "pipeline.tracking.store",  # sets what mlflow reads when it is imported
    "mlflow.store.tracking.sqlalchemy_store",
]
"""Modules of the commands that take more than a tenth of a second. None starts a Python thread or uses a GPU."""
SERVER_GONE = 255
"""Exit code that `multiprocessing` gives to processes whose fork server was killed."""


def run(
    commands: Sequence[Command], *, workers: int | None, gpus: float | None, on_end: OnEnd | None = None
) -> list[int]:
    """See `Engine.run`. Workers take the GPUs in turn.

    Raises:
        RunError: the fork server was killed.
    """
    count = workers or machine.capacity(gpus)
    free = machine.worker_environments(count)
    running: dict[ForkServerProcess, tuple[int, dict[str, str]]] = {}
    codes: dict[int, int] = {}
    waiting = list(enumerate(commands))
    start_server(machine.thread_variables(count))
    try:
        while waiting or running:
            while waiting and free:
                (index, command), environment = waiting.pop(0), free.pop(0)
                with interrupts_delayed():
                    running[start(command, environment)] = index, environment
            wait([process.sentinel for process in running])
            for process in [process for process in running if process.exitcode is not None]:
                code = exit_code(process)
                index, environment = running.pop(process)
                free.append(environment)
                codes[index] = code
                if on_end:
                    on_end(index, code)
    except BaseException:
        for process in running:
            _send_signal(process, signal.SIGINT)
        for process in running:
            process.join()
        raise
    return [codes[index] for index in range(len(commands))]


def start_server(threads: Mapping[str, str]) -> None:
    """Start the fork server, unless this process has one, with these numbers of threads in its environment.

    Libraries read those variables when they are imported.
    """
    CONTEXT.set_forkserver_preload(SLOW_IMPORTS)
    resource_tracker.ensure_running()  # the server would start it, and in doing so deliver a delayed Ctrl-C
    environment = dict(os.environ)
    os.environ.update(threads)
    try:
        with interrupts_delayed():
            forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(environment)


def start(command: Command, worker_environment: Mapping[str, str]) -> ForkServerProcess:
    """Start the command in the current folder.

    Raises:
        RunError: the fork server was killed.
    """
    process = CONTEXT.Process(target=_become, args=(command, command.full_environment(worker_environment)))
    try:
        process.start()
    except (OSError, EOFError):
        raise _server_killed() from None
    return process


def exit_code(process: ForkServerProcess) -> int:
    """Return the exit code of a process that has ended.

    Raises:
        RunError: the fork server was killed.
    """
    assert process.exitcode is not None
    if process.exitcode == SERVER_GONE and _send_signal(process, 0):  # the process is still running
        raise _server_killed()
    return process.exitcode


def _send_signal(process: ForkServerProcess, number: int) -> bool:
    """Send a signal (0: none) to the process, and return whether it was running."""
    assert process.pid is not None
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _server_killed() -> RunError:
    return RunError("--engine processes: the process that starts the commands was killed")


def _become(command: Command, environment: Mapping[str, str]) -> None:
    """Run the command in this fork of the server as if it had been started by itself."""
    gc.freeze()  # garbage collections need not touch, and so copy, the pages shared with the server
    os.setsid()  # Ctrl-C in a terminal reaches the engine alone, which passes it on once
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = parent_process()
    assert parent is not None
    os.dup2(parent.sentinel, STDIN)  # see `end_with_parent`
    if command.log is not None:
        with open_log(command.log) as log:
            os.dup2(log.fileno(), STDOUT)
            os.dup2(log.fileno(), STDERR)
    same_threads = all(environment.get(name) == os.environ.get(name) for name in machine.THREADS)
    os.environ.clear()
    os.environ.update(environment)
    if command.module is None or not same_threads:
        os.execvpe(command.arguments[0], command.arguments, os.environ)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # otherwise all forks share the state of the server
    sys.path.insert(0, str(Path.cwd()))
    sys.argv[1:] = command.arguments[3:]
    try:
        runpy.run_module(command.module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # processes of `multiprocessing` end without them
