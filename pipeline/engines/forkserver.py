"""A process that has imported once what is slow, and becomes any number of commands by forking itself.

`python -m pipeline train` spends seconds in imports, which a fork of this process need not repeat. The one of
`multiprocessing` does the same for a whole process's life, with the environment and the output that it found when it
was first used; this one is there for a single call of the engine `processes`, and has those of that call.

A fork does not return to whoever asked for it: it goes on, out of `serve`, as the command, and ends as any Python does.
"""

import gc
import importlib
import os
import runpy
import signal
import sys
import warnings
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait

from pipeline.engines.command import STDERR, STDOUT, Command, open_log
from pipeline.engines.machine import THREADS

SLOW = (
    "pytorch_lightning",
    "torch._dynamo",  # which counting FLOPs asks for
    "pandas",
    "scipy.stats",
    "optuna",
    "pipeline.tracking.store",  # ours, which first says what mlflow reads when it is imported
    "mlflow.store.tracking.sqlalchemy_store",
)
"""What the commands of this project import for more than a tenth of a second, and not one of them starts a thread of
Python's or touches a GPU. One that is not there is not needed, or whoever needs it says so."""
READY = "ready"
INTERRUPT = None
"""Asked for instead of a command: interrupt what runs, and go when it has ended."""


def serve(descriptor: int, *, slow: bool) -> None:
    """Say `READY`, then take `(index, command, environment)` from the pipe and answer `(index, exit code)` when the
    command has ended, until the pipe is closed. Standard input is that of every command; its other end is the
    engine's."""
    with Connection(descriptor) as pipe:
        gc.disable()
        if slow:
            _import()
        gc.freeze()  # what is there stays: collections in the forks need not touch, and so copy, all of its pages
        gc.enable()
        try:
            pipe.send(READY)
            job = _forked(pipe)
        except (EOFError, ConnectionError):  # the engine is gone, and the commands learn that from their standard input
            return
    if job:
        _become(*job)


def _import() -> None:
    for name in SLOW:
        try:
            importlib.import_module(name)
        except ImportError:
            continue


def _forked(pipe: Connection) -> tuple[Command, Mapping[str, str]] | None:
    """In a fork: what it is to be. In the server: None, when it is no longer needed."""
    # native threads (of pyarrow's and numpy's allocators and pools) look after themselves in a fork
    warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
    ended, wake = os.pipe()
    for end in (ended, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler nothing would be written to `wake`
    running: dict[int, int] = {}  # process -> index
    asked = True
    while asked or running:
        ready = wait([ended, pipe] if asked else [ended])
        if ended in ready:
            os.read(ended, 4096)
            _tell_ends(running, pipe)
        if pipe in ready:
            job = pipe.recv()
            if job is INTERRUPT:
                asked = False
                for process in running:
                    os.kill(process, signal.SIGINT)
            elif process := os.fork():
                running[process] = job[0]
            else:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(ended)
                os.close(wake)
                return job[1:]
    return None


def _tell_ends(running: dict[int, int], pipe: Connection) -> None:
    while running:
        process, status = os.waitpid(-1, os.WNOHANG)
        if not process:
            return
        pipe.send((running.pop(process), os.waitstatus_to_exitcode(status)))


def _become(command: Command, environment: Mapping[str, str]) -> None:
    """Go on as the command would, had it been started."""
    os.setsid()
    if command.log is not None:
        with open_log(command.log) as log:
            os.dup2(log.fileno(), STDOUT)
            os.dup2(log.fileno(), STDERR)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # its own, not that of all forks
    as_imported = all(environment.get(name) == os.environ.get(name) for name in THREADS)
    os.environ.update(environment)
    if command.module is None or not as_imported:
        os.execvpe(command.arguments[0], command.arguments, os.environ)
    _, _, module, *arguments = command.arguments
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
