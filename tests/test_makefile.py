"""make takes its variables from its command line alone, with any characters, and no settings of the user's pip."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.projects import PROJECT, make


@pytest.fixture(autouse=True)
def variables_of_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables that mean something else."""
    for name, value in {"NAME": "host", "DATA": "/data", "COLUMN": "80", "PORT": "80"}.items():
        monkeypatch.setenv(name, value)


def study_command(*variables: str) -> list[str]:
    """Arguments with which `make study` would call the command `study`."""
    (line,) = [line for line in make("--dry-run", "study", *variables).splitlines() if "-m pipeline study " in line]
    return shlex.split(line.partition("-m pipeline study ")[2])


@pytest.mark.parametrize("data", ["book.txt", 'it\'s [a] "book", 5 $.txt', "Price ($)", "a #1 `x` $HOME.txt"])
def test_any_text_reaches_the_command(data: str) -> None:
    assert study_command("NAME=mine", f"DATA={data}", f"COLUMN={data}") == ["mine", "--data", data, "--column", data]


def test_without_a_screen_the_page_is_named_and_nothing_is_installed() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = ["make", "--no-print-directory", "play"]  # a make within make reports the directory
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"The page: {PROJECT / 'reports/play.html'}"]


def test_the_environment_does_not_count() -> None:
    assert study_command("NAME=mine") == ["mine"]
    with pytest.raises(AssertionError, match="name the study"):
        study_command()


def test_the_port_of_the_pages_can_be_chosen() -> None:
    assert "-m pipeline ui --port '5050'" in make("--dry-run", "ui", "PORT=5050")
    assert "--port" not in make("--dry-run", "ui")


def test_a_setting_of_the_users_pip_does_not_hold_in_the_virtual_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text("[install]\nuser = true\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    rule = f"pip:\n\t{sys.executable} -m pip install --dry-run --no-index pip"
    make("--file", str(PROJECT / "Makefile"), "--eval", rule, "pip")
