"""What every engine keeps to."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.engines import ENGINES, Command, Engine

BEGIN = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); "
HEAR = "from pipeline.engines.command import end_with_parent; end_with_parent(); "  # as the command line does
CLUSTERS = {"ray": "cluster", "slurm": "slurm"}
"""Engine -> the fixture of a cluster for it."""


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.faults] * (name in CLUSTERS)) for name in ENGINES])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each of them."""
    if request.param in CLUSTERS:
        request.getfixturevalue(CLUSTERS[request.param])
    return ENGINES[request.param]


def python(code: str, *arguments: object, log: Path | None = None, **environment: str) -> Command:
    return Command((sys.executable, "-c", code, *map(str, arguments)), environment, log)


def alive(path: Path) -> bool:
    """Whether the process whose id is in the file is there."""
    return Path(f"/proc/{path.read_text()}").exists()


@pytest.mark.timeout(120)
def test_exit_codes_come_back_in_order_also_those_of_commands_that_fail_or_are_killed(
    engine: Engine, tmp_path: Path
) -> None:
    scripts = ["time.sleep(0.5)", "sys.exit(3)", "os.kill(os.getpid(), 9)", "sys.exit(0)", "raise SystemExit(1)"]
    commands = [python(BEGIN + script, tmp_path / str(index)) for index, script in enumerate(scripts)]
    told = {}
    codes = engine.run(commands, workers=2, gpus=0.0, on_end=told.__setitem__)
    assert codes == [0, 3, -signal.SIGKILL, 0, 1]
    assert told == dict(enumerate(codes))
    assert not any(alive(tmp_path / str(index)) for index in range(len(scripts)))


@pytest.mark.timeout(120)
def test_an_end_is_told_at_once_in_the_thread_that_called(engine: Engine, tmp_path: Path) -> None:
    """The second command waits for what is done when the first has ended."""
    wait = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.1)"
    told = []

    def on_end(index: int, code: int) -> None:
        told.append((index, code, threading.current_thread()))
        (tmp_path / "told").touch()

    assert engine.run(
        [python("raise SystemExit(4)"), python(wait, tmp_path / "told")], workers=2, gpus=0.0, on_end=on_end
    ) == [4, 0]
    assert told == [(0, 4, threading.current_thread()), (1, 0, threading.current_thread())]


@pytest.mark.timeout(120)
def test_no_more_than_the_workers_run_at_once(engine: Engine, tmp_path: Path) -> None:
    code = "import os, sys, time; os.mkdir(sys.argv[1]); time.sleep(0.3); os.rmdir(sys.argv[1])"
    one = [python(code, tmp_path / "running") for _ in range(3)]  # a second `mkdir` would fail
    assert engine.run(one, workers=1, gpus=0.0) == [0, 0, 0]


@pytest.mark.timeout(120)
def test_without_a_number_of_workers_there_is_room(engine: Engine) -> None:
    assert engine.run([python("")] * 3, workers=None, gpus=None) == [0] * 3
    assert engine.run([], workers=None, gpus=None) == []


@pytest.mark.timeout(120)
def test_a_command_runs_in_the_projects_folder_in_its_own_environment(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "import os, sys; open(sys.argv[1], 'w').write(os.environ['MINE'] + os.environ['OMP_NUM_THREADS'])"
    commands = [python(code, name, MINE=name) for name in ("one", "two", "three")]
    commands.append(python(code, "four", MINE="four", OMP_NUM_THREADS="77"))  # said last
    assert engine.run(commands, workers=1, gpus=0.0) == [0] * 4
    written = {name: (tmp_path / name).read_text() for name in ("one", "two", "three", "four")}
    assert all(text.startswith(name) and text[len(name) :].isdigit() for name, text in written.items())
    assert written["four"] == "four77"


@pytest.mark.timeout(120)
def test_what_a_command_says_is_in_its_log_alone(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.log").write_text("what another said before, and at length")
    code = "import sys; print('said', sys.argv[1], flush=True); print('told', sys.argv[1], file=sys.stderr)"
    logs = [Path("one.log"), Path("logs/two.log")]
    commands = [python(code, log.stem, log=log) for log in logs]
    assert engine.run(commands, workers=2, gpus=0.0) == [0, 0]
    assert [log.read_text() for log in logs] == ["said one\ntold one\n", "said two\ntold two\n"]
    assert "said" not in "".join(capfd.readouterr())


@pytest.mark.timeout(120)
def test_ctrl_c_reaches_every_command_is_waited_for_and_starts_none(engine: Engine, tmp_path: Path) -> None:
    code = HEAR + BEGIN + "time.sleep(100)"
    begun = [tmp_path / "0", tmp_path / "1"]

    def interrupt() -> None:
        while not all(path.exists() and path.read_text() for path in begun):
            time.sleep(0.1)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    commands = [python(code, tmp_path / str(index)) for index in range(6)]
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        engine.run(commands, workers=2, gpus=0.0)
    assert sorted(tmp_path.glob("[0-9]")) == begun
    assert not any(alive(path) for path in begun)


@pytest.mark.timeout(120)
def test_what_on_end_raises_interrupts_the_others_and_is_raised(engine: Engine, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    wait = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.1)"

    def on_end(index: int, code: int) -> None:
        raise LookupError(index)

    commands = [python(wait, begun), python(HEAR + BEGIN + "time.sleep(100)", begun)]
    with pytest.raises(LookupError, match="0"):
        engine.run(commands, workers=2, gpus=0.0, on_end=on_end)
    assert not alive(begun)
