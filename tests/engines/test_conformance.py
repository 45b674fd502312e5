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


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each of them."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
    return ENGINES[request.param]


def python(code: str, *arguments: object, **environment: str) -> Command:
    return Command((sys.executable, "-c", code, *map(str, arguments)), environment)


def alive(path: Path) -> bool:
    """Whether the process whose id is in the file is there."""
    return Path(f"/proc/{path.read_text()}").exists()


@pytest.mark.timeout(60)
def test_exit_codes_come_back_in_order_also_those_of_commands_that_fail_or_are_killed(
    engine: Engine, tmp_path: Path
) -> None:
    scripts = ["time.sleep(0.5)", "sys.exit(3)", "os.kill(os.getpid(), 9)", "sys.exit(0)", "raise SystemExit(1)"]
    commands = [python(BEGIN + script, tmp_path / str(index)) for index, script in enumerate(scripts)]
    assert engine.run(commands, workers=2, gpus=0.0) == [0, 3, -signal.SIGKILL, 0, 1]
    assert not any(alive(tmp_path / str(index)) for index in range(len(scripts)))


@pytest.mark.timeout(60)
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


@pytest.mark.timeout(60)
def test_ctrl_c_reaches_every_command_is_waited_for_and_starts_none(engine: Engine, tmp_path: Path) -> None:
    code = HEAR + BEGIN + "time.sleep(100)"
    begun = [tmp_path / "0", tmp_path / "1"]

    def interrupt() -> None:
        while not any(path.exists() and path.read_text() for path in begun):
            time.sleep(0.1)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    commands = [python(code, tmp_path / str(index)) for index in range(6)]
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        engine.run(commands, workers=2, gpus=0.0)
    assert not any(alive(path) for path in tmp_path.iterdir())
