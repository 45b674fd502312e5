"""`make study` takes its variables from the command line of make alone, with any characters."""

import os
import shlex
import subprocess

import pytest

from tests.projects import PROJECT

ENVIRONMENT = {"NAME": "host", "DATA": "/data", "COLUMN": "80"}


def study_command(*variables: str) -> list[str]:
    """Arguments with which `make study` would call the command `study`."""
    command = ["make", "--dry-run", "study", *variables]
    done = subprocess.run(command, cwd=PROJECT, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "-m pipeline study " in line]
    return shlex.split(line.partition("-m pipeline study ")[2])


@pytest.mark.parametrize("data", ["book.txt", 'it\'s [a] "book", 5 $.txt', "Price ($)", "a #1 `x` $HOME.txt"])
def test_any_text_reaches_the_command(data: str) -> None:
    assert study_command("NAME=mine", f"DATA={data}", f"COLUMN={data}") == ["mine", "--data", data, "--column", data]


def test_without_a_screen_the_page_is_named_and_nothing_is_installed() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(["make", "play"], cwd=PROJECT, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"The page: {PROJECT / 'reports/play.html'}"]


def test_the_environment_does_not_count() -> None:
    assert study_command("NAME=mine") == ["mine"]
    with pytest.raises(AssertionError, match="name the study"):
        study_command()
