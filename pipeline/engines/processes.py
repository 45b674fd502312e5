"""Engine that runs commands as processes of this machine, each with a GPU (if there is one) and a share of the cores.

`python -m pipeline train` spends seconds in imports. So the fork server of `multiprocessing` imports the slow libraries
once, and every command starts as a fork of the server.
"""

import atexit
import gc
import os
import runpy
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from pipeline.engines import machine
from pipeline.engines.command import INTERRUPT_SIGNALS, Command, Limits, delay_interrupts, open_log
from pipeline.errors import RunError

FORK_SERVER_CONTEXT = get_context("forkserver")
PRELOADED_MODULES = [
    "pytorch_lightning",
    "torch._dynamo",  # needed to count FLOPs
    "pandas",
    "scipy.stats",
    "optuna",
    "pipeline.tracking.store",  # before mlflow, as it sets what mlflow reads when it is imported
    "mlflow.store.tracking.sqlalchemy_store",
]
"""Modules that the fork server imports for all commands: slow to import, without starting threads or using a GPU."""
KILLED_SERVER = "--engine processes: the process that starts the commands was killed"


def run(commands: Sequence[Command], limits: Limits, on_command_end: Callable[[int, int], None]) -> None:
    """Run the commands as processes of this machine, as `Engine.run` describes; workers take the GPUs in turn.

    Raises:
        RunError: the fork server was killed.
    """
    count = limits.max_workers or machine.command_capacity(limits.gpus_per_command)
    free_environments = machine.worker_environments(count)
    running: dict[ForkServerProcess, tuple[int, dict[str, str]]] = {}
    waiting = list(enumerate(commands))
    start_fork_server(machine.thread_environment(count))
    try:
        while waiting or running:
            while waiting and free_environments:
                (index, command), environment = waiting.pop(0), free_environments.pop(0)
                with delay_interrupts():
                    running[start_process(command, environment)] = index, environment
            wait([process.sentinel for process in running])
            for process in [process for process in running if process.exitcode is not None]:
                exit_code = get_exit_code(process)
                index, environment = running.pop(process)
                free_environments.append(environment)
                on_command_end(index, exit_code)
    except BaseException:
        for process in running:
            _send_signal(process, signal.SIGINT)
        for process in running:
            process.join()
        raise


def start_fork_server(thread_environment: Mapping[str, str]) -> None:
    """Start the fork server, unless this process has one; the libraries that it imports read `thread_environment`."""
    FORK_SERVER_CONTEXT.set_forkserver_preload(PRELOADED_MODULES)
    resource_tracker.ensure_running()  # the server would start it, and in doing so deliver a delayed Ctrl-C
    environment = dict(os.environ)
    os.environ.update(thread_environment)
    try:
        with delay_interrupts():
            forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(environment)


def start_process(command: Command, worker_environment: Mapping[str, str]) -> ForkServerProcess:
    """Start the command in the current folder, as a fork of the server, and return the process."""
    environment = command.full_environment(worker_environment)
    process = FORK_SERVER_CONTEXT.Process(target=_execute_in_fork, args=(command, environment))
    try:
        process.start()
    except (OSError, EOFError):
        raise RunError(KILLED_SERVER) from None
    return process


def get_exit_code(process: ForkServerProcess) -> int:
    """Return the exit code of a process that has ended."""
    assert process.exitcode is not None
    # `multiprocessing` gives the code 255 to a process whose fork server was killed, although it may still run
    if process.exitcode == 255 and _send_signal(process, 0):
        raise RunError(KILLED_SERVER)
    return process.exitcode


def _send_signal(process: ForkServerProcess, signal_number: int) -> bool:
    """Send the signal (0: none) to the process, and return True if the process is running."""
    assert process.pid is not None
    try:
        os.kill(process.pid, signal_number)
    except ProcessLookupError:
        return False
    return True


def _execute_in_fork(command: Command, environment: Mapping[str, str]) -> None:
    """Run the command in this process, a fork of the server, as a new Python process would run the command."""
    gc.freeze()  # garbage collections need not touch, and so copy, the pages shared with the server
    os.setsid()  # Ctrl-C in a terminal reaches the engine alone, which passes it on once
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPT_SIGNALS)
    parent = parent_process()
    assert parent is not None
    os.dup2(parent.sentinel, 0)  # standard input: see `exit_when_parent_exits`
    if command.log_file is not None:
        with open_log(command.log_file) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
    same_threads = all(environment.get(name) == os.environ.get(name) for name in machine.THREAD_VARIABLES)
    os.environ.clear()
    os.environ.update(environment)
    if command.arguments[:2] != (sys.executable, "-m") or not same_threads:
        os.execvpe(command.arguments[0], command.arguments, os.environ)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # otherwise all forks share the state of the server
    sys.path.insert(0, str(Path.cwd()))
    sys.argv[1:] = command.arguments[3:]
    try:
        runpy.run_module(command.arguments[2], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # processes of `multiprocessing` end without them
