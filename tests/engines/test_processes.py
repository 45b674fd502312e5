"""Commands of Python are forks of one process, and nobody can tell."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.engines import ENGINES, Command, machine

PROJECT = Path(__file__).parent.parent.parent
TELL = """
import atexit, json, os, sys, threading
import torch

def write() -> None:
    sys.stdout.write("at exit")  # nobody flushes it

atexit.register(write)
told = {
    "name": __name__,
    "arguments": sys.argv[1:],
    "script": sys.argv[0],
    "folder": os.getcwd(),
    "threads": torch.get_num_threads(),
    "said": os.environ["OMP_NUM_THREADS"],
    "mine": os.environ.get("MINE"),
    "session": os.getsid(0) == os.getpid(),
    "alone": threading.active_count() == 1,
    "cuda": torch.cuda.is_initialized(),
    "handler": __import__("signal").getsignal(2) is __import__("signal").default_int_handler,
}
json.dump(told, open(sys.argv[1], "w"))
threading.Thread(target=lambda: print("from a thread")).start()
"""
END = {
    "good": ("", 0),
    "exit": ("raise SystemExit(5)", 5),
    "words": ("raise SystemExit('so it ends')", 1),
    "error": ("raise LookupError('lost')", 1),
    "killed": ("import os; os.kill(os.getpid(), 9)", -9),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where we are: with the modules `tell`, and one for each way to end."""
    (tmp_path / "tell.py").write_text(TELL)
    for name, (code, _) in END.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    return tmp_path


def module(name: str, *arguments: str, log: Path | None = None, **environment: str) -> Command:
    return Command((sys.executable, "-m", name, *arguments), environment, log)


@pytest.mark.timeout(120)
def test_a_fork_is_as_if_it_had_been_started_and_ends_as_a_python_does(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = module("tell", "told", "--option", log=Path("log"), MINE="yes")
    other = module("tell", "other", log=Path("other.log"), **dict.fromkeys(machine.THREADS, "1"))
    codes = ENGINES["processes"].run([command, other, *map(module, END)], workers=1, gpus=None)
    assert codes == [0, 0, *(code for _, code in END.values())]
    said = capfd.readouterr().err  # without logs, where ours goes
    assert "so it ends" in said
    assert "LookupError: lost" in said

    forked, log = json.loads(Path("told").read_text()), Path("log").read_text()
    started = {**os.environ, **machine.thread_variables(1), "MINE": "yes"}
    fresh = subprocess.run(command.arguments, env=started, capture_output=True, text=True, start_new_session=True)
    assert forked == json.loads(Path("told").read_text())
    assert log == fresh.stdout == "from a thread\nat exit"
    assert forked["name"] == "__main__"
    assert forked["alone"]
    assert not forked["cuda"]

    # who wants other threads has them, of which a fork would know nothing: libraries read how many when imported
    assert forked["threads"] == machine.usable_cores()  # not what our own environment says
    assert json.loads(Path("other").read_text())["threads"] == 1


def living(folder: Path) -> set[int]:
    """The processes, other than this one, that work in the folder."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if path.readlink() == folder:
                found.add(int(path.parent.name))
        except OSError:  # it is gone
            continue
    return found - {os.getpid()}


@pytest.mark.faults
@pytest.mark.timeout(120)
@pytest.mark.parametrize("killed", ["the caller", "the server"])
def test_kill_9_leaves_nobody_behind(folder: Path, killed: str) -> None:
    (folder / "last.py").write_text(
        "import pathlib, sys, time\n"
        "from pipeline.engines.command import end_with_parent\n"
        "end_with_parent()\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "time.sleep(100)\n"
    )
    script = (
        "import sys\n"
        "from pipeline.engines import ENGINES, Command\n"
        "commands = [Command((sys.executable, '-m', 'last', name)) for name in ('begun-1', 'begun-2')]\n"
        "ENGINES['processes'].run(commands, workers=2, gpus=None)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as caller:
        while not all((folder / name).exists() for name in ("begun-1", "begun-2")):
            assert caller.poll() is None
            time.sleep(0.1)
        children = Path(f"/proc/{caller.pid}/task/{caller.pid}/children").read_text().split()
        assert len(children) == 1
        assert len(living(folder)) == 4
        os.kill(caller.pid if killed == "the caller" else int(children[0]), signal.SIGKILL)
        said = caller.communicate()[1]
    if killed == "the server":
        assert "RunError: --engine processes: the process that starts the commands was killed" in said
    while living(folder):
        time.sleep(0.1)
