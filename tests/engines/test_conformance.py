"""Every engine runs commands, reports exit codes and passes on interrupts in the same way."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.engines import ENGINES, LOCAL_ENGINE, Command, Engine, Limits
from tests.faults.clusters import CLUSTERS

WRITE_PID = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); "
EXIT_WITH_PARENT = "from pipeline.engines.command import exit_when_parent_exits as call; call(); "  # as in `cli.main`
WAIT_FOR_FILE = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.1)"
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(
    params=[pytest.param(name, marks=[] if name == LOCAL_ENGINE else pytest.mark.faults) for name in ENGINES]
)
def engine(request: pytest.FixtureRequest) -> Engine:
    """One engine after the other; an engine that needs a cluster gets a running one."""
    if request.param in CLUSTERS:
        request.getfixturevalue(CLUSTERS[request.param])
    return ENGINES[request.param]


def run(
    engine: Engine, *commands: Command, workers: int | None = 2, on_end: Callable[[int, int], None] | None = None
) -> list[int]:
    """Run the commands, and return the exit code of each."""
    codes: dict[int, int] = {}
    engine.run(commands, Limits(workers, gpus_per_command=0.0), on_end or codes.__setitem__)
    return [codes[index] for index in sorted(codes)]


def python(code: str, *arguments: object, log: Path | None = None, **environment: str) -> Command:
    return Command((sys.executable, "-c", code, *map(str, arguments)), environment, log)


def is_alive(pid_file: Path) -> bool:
    return Path(f"/proc/{pid_file.read_text()}").exists()


def test_exit_codes_are_in_order_also_of_commands_that_fail_or_are_killed(engine: Engine, tmp_path: Path) -> None:
    scripts = ["time.sleep(0.3)", "sys.exit(3)", "os.kill(os.getpid(), 9)", "sys.exit(255)", "raise SystemExit(1)"]
    commands = [python(WRITE_PID + script, tmp_path / str(index)) for index, script in enumerate(scripts)]
    assert run(engine, *commands) == [0, 3, -signal.SIGKILL, 255, 1]
    assert not any(is_alive(tmp_path / str(index)) for index in range(len(scripts)))


def test_on_end_is_called_at_once_in_the_calling_thread(engine: Engine, tmp_path: Path) -> None:
    """The second command waits for a file that is written when the first has ended."""
    calls = []

    def on_end(index: int, code: int) -> None:
        calls.append((index, code, threading.current_thread()))
        (tmp_path / "ended").touch()

    commands = [python("raise SystemExit(4)"), python(WAIT_FOR_FILE, tmp_path / "ended")]
    run(engine, *commands, on_end=on_end)
    assert calls == [(0, 4, threading.current_thread()), (1, 0, threading.current_thread())]


def test_no_more_commands_than_workers_run_at_once_and_their_number_is_optional(engine: Engine, tmp_path: Path) -> None:
    code = "import os, sys, time; os.mkdir(sys.argv[1]); time.sleep(0.2); os.rmdir(sys.argv[1])"
    commands = [python(code, tmp_path / "running") for _ in range(3)]  # a second `mkdir` would fail
    assert run(engine, *commands, workers=1) == [0, 0, 0]
    assert run(engine, *[python("")] * 3, workers=None) == [0, 0, 0]
    assert run(engine, workers=None) == []


def test_a_command_runs_in_the_current_folder_in_its_own_environment(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "import os, sys; open(sys.argv[1], 'w').write(os.environ['MINE'] + os.environ['OMP_NUM_THREADS'])"
    commands = [python(code, "one", MINE="one"), python(code, "two", MINE="two", OMP_NUM_THREADS="77")]
    assert run(engine, *commands, workers=1) == [0, 0]
    assert re.fullmatch(r"one\d+", Path("one").read_text())
    assert Path("two").read_text() == "two77"


def test_output_goes_to_the_log_alone(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one.log").write_text("a longer text that another command wrote before")
    code = "import sys; print('output', sys.argv[1], flush=True); print('error', sys.argv[1], file=sys.stderr)"
    logs = [Path("one.log"), Path("logs/two.log")]
    assert run(engine, *[python(code, log.stem, log=log) for log in logs]) == [0, 0]
    assert [log.read_text() for log in logs] == ["output one\nerror one\n", "output two\nerror two\n"]
    assert "output" not in "".join(capfd.readouterr())


def test_ctrl_c_interrupts_every_command_is_waited_for_and_starts_none(engine: Engine, tmp_path: Path) -> None:
    started = [tmp_path / "0", tmp_path / "1"]

    def interrupt() -> None:
        while not all(path.exists() and path.read_text() for path in started):
            time.sleep(0.1)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    code = EXIT_WITH_PARENT + WRITE_PID + "time.sleep(100)"
    commands = [python(code, tmp_path / str(index)) for index in range(6)]
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(engine, *commands)
    assert sorted(tmp_path.glob("[0-9]")) == started
    assert not any(is_alive(path) for path in started)


def test_an_exception_of_on_end_interrupts_the_others_and_is_raised(engine: Engine, tmp_path: Path) -> None:
    started = tmp_path / "started"

    def on_end(index: int, code: int) -> None:
        raise LookupError(index)

    endless = python(EXIT_WITH_PARENT + WRITE_PID + "time.sleep(100)", started)
    with pytest.raises(LookupError, match="0"):
        run(engine, python(WAIT_FOR_FILE, started), endless, on_end=on_end)
    assert not is_alive(started)
