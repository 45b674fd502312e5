"""A command that runs as a fork of the server behaves like a Python process that was started directly."""

import json
import os
import subprocess
import sys
from multiprocessing.forkserver import _forkserver
from pathlib import Path

import pytest

from pipeline.engines import ENGINES, Command, Limits, machine

DESCRIBE = """
import atexit, json, os, signal, sys, threading
import torch

def write() -> None:
    sys.stdout.write("at exit")  # without a flush

atexit.register(write)
description = {
    "name": __name__,
    "arguments": sys.argv,
    "folder": os.getcwd(),
    "threads": torch.get_num_threads(),
    "variable": os.environ["OMP_NUM_THREADS"],
    "own variable": os.environ.get("MINE"),
    "session": os.getsid(0) == os.getpid(),
    "python threads": threading.active_count(),
    "cuda": torch.cuda.is_initialized(),
    "handler": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
}
json.dump(description, open(sys.argv[1], "w"))
thread = threading.Thread(target=lambda: print("from a thread"))
thread.start()
"""
EXITING_MODULES = {
    "good": ("", 0),
    "exit": ("raise SystemExit(5)", 5),
    "words": ("raise SystemExit('last words')", 1),
    "error": ("raise LookupError('lost')", 1),
    "killed": ("import os; os.kill(os.getpid(), 9)", -9),
}
"""Name of a test module -> the module's source code, and the exit code of running it."""


@pytest.mark.timeout(120)
def test_a_fork_starts_and_ends_as_any_python_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
    Path("describe.py").write_text(DESCRIBE)
    for name, (code, _) in EXITING_MODULES.items():
        Path(f"{name}.py").write_text(code)

    def module(name: str, *arguments: str, log: Path | None = None, **environment: str) -> Command:
        return Command((sys.executable, "-m", name, *arguments), environment, log)

    _forkserver._stop()  # the next one has this test's output and threads
    command = module("describe", "forked", "--option", log=Path("log"), MINE="yes")
    other = module("describe", "other", log=Path("other.log"), **dict.fromkeys(machine.THREAD_VARIABLES, "1"))
    codes: dict[int, int] = {}
    ENGINES["processes"].run([command, other, *map(module, EXITING_MODULES)], Limits(1), codes.__setitem__)
    assert list(codes.values()) == [0, 0, *(code for _, code in EXITING_MODULES.values())]
    errors = capfd.readouterr().err  # without a log, the engine's
    assert "last words" in errors
    assert "LookupError: lost" in errors

    forked, log = json.loads(Path("forked").read_text()), Path("log").read_text()
    environment = {**os.environ, **machine.thread_environment(1), "MINE": "yes"}
    fresh = subprocess.run(command.arguments, env=environment, capture_output=True, text=True, start_new_session=True)
    assert forked == json.loads(Path("forked").read_text())
    assert all("from a thread" in output and "at exit" in output for output in (log, fresh.stdout))
    assert forked["name"] == "__main__"
    assert forked["python threads"] == 1
    assert not forked["cuda"]

    # a command with other threads gets them, although libraries read the variables when the server imports them
    assert forked["threads"] == machine.usable_cores()
    assert json.loads(Path("other").read_text())["threads"] == 1
