"""Commands work for any user, in any locale and with any output; what cannot work is refused before it runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.errors import UserError
from pipeline.repro.dvc_stages import open_stages
from tests.conftest import PRESETS
from tests.projects import PROJECT, environment

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""The one locale of every machine that is not UTF-8."""
UNNAMED_USER = ("unshare", "--map-user=4321", "env", "-u", "HOME", "-u", "USER", "-u", "LOGNAME")
"""Runs a command as a user whom the system does not know."""
OPEN_DVC = """
import os
from pipeline import cli
from pipeline.repro.dvc_stages import open_stages
cli.app = lambda *arguments, **options: open_stages().__enter__() and print(os.access(os.environ["HOME"], os.W_OK))
cli.main()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: the project without code, data and repository."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(PRESETS / "smoke.yaml", tmp_path / "params.yaml")
    shutil.copy(PROJECT / "dvc.yaml", tmp_path)
    shutil.copytree(PROJECT / ".dvc", tmp_path / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    return tmp_path


def run(
    *command: str, output: str = "", before: tuple[str, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, and with standard output in a file if `output` names one."""
    with open(output or os.devnull, "w") as file:
        return subprocess.run(
            [*before, sys.executable, *command],
            env=environment(PROJECT) | variables,
            stdout=file if output else subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )


def test_a_user_without_a_name_and_a_home_can_open_dvc_and_gets_a_home(folder: Path) -> None:
    if subprocess.run([*UNNAMED_USER, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    subprocess.run(["git", "init", "--quiet"], check=True)
    for home in ((), ("HOME=/",)):
        done = run("-c", OPEN_DVC, before=(*UNNAMED_USER, *home))
        assert done.stdout == "True\n", done.stderr


def test_files_are_read_and_printed_in_utf8_in_every_locale(folder: Path) -> None:
    with (folder / "params.yaml").open("a", encoding="utf-8") as file:
        file.write("# café 価格\n")
    done = run("-m", "pipeline", "study", "mine", **ASCII)
    assert done.returncode == 0, done.stderr
    assert "# café 価格\n" in (folder / "studies/mine/params.yaml").read_text("utf-8")
    (folder / "params.yaml").write_text("価格: 1", "utf-8")
    assert "価格" in run("-m", "pipeline", "check", **ASCII).stderr


@pytest.mark.parametrize("command", ["check", "check --resolved", "--help"])
@pytest.mark.parametrize("buffered", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
def test_output_on_a_full_disk_costs_one_line(folder: Path, command: str, buffered: dict[str, str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = run("-m", "pipeline", *command.split(), output="/dev/full", **buffered)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("name", ["data", "models", "reports"])
def test_a_linked_folder_of_results_is_refused_before_anything_runs(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "disk").mkdir()
    (folder / name).symlink_to("disk")
    monkeypatch.setenv("DVC_STAGE", "generate@addition")  # as DVC sets it
    for command in (["check"], ["repro"], ["generate", "addition"]):
        assert cli.run_command(command) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {name}: is a link to disk")
        assert "dvc cache dir" in error
        assert error.count("\n") == 1
    assert not list((folder / "disk").iterdir())


def test_without_a_git_repository_the_way_out_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"not a git repository.*`git init`"), open_stages():
        pass
