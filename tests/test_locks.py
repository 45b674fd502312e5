"""`uv.lock` is the one source of pinned versions: what pip installs from is what uv exports from it."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.projects import PROJECT, make

LISTS = ("requirements.lock", "requirements-dev.lock")
LOCK = tomllib.loads((PROJECT / "uv.lock").read_text("utf-8"))
CPU_INDEX = {"registry": "https://download.pytorch.org/whl/cpu"}


def pins(name: str) -> set[tuple[str, str]]:
    """Names and versions in a list for pip."""
    return set(re.findall(r"(?m)^([a-z0-9.-]+)==([^ ;\\]+)", (PROJECT / name).read_text("utf-8")))


@pytest.mark.parametrize("name", LISTS)
def test_pip_installs_versions_of_uv_lock_and_nothing_for_gpus(name: str) -> None:
    assert pins(name) <= {(package["name"], package.get("version")) for package in LOCK["package"]}
    assert not [name for name, _ in pins(name) if re.match(r"torch$|triton$|nvidia-|cuda-", name)]


def test_a_build_of_torch_for_cpus_is_locked_with_hashes() -> None:
    (torch,) = [package for package in LOCK["package"] if package["source"] == CPU_INDEX]
    assert torch["name"] == "torch"
    assert all("+cpu" in wheel["url"].replace("%2B", "+") and wheel["hash"] for wheel in torch["wheels"])


def test_every_command_of_make_that_installs_does_so_with_uv_or_with_pip() -> None:
    for target in ("repro", "search", "ui", "test", "check"):
        with_uv, with_pip = (make("--dry-run", "--always-make", target, f"UV={uv}") for uv in ("uv", ""))
        assert "uv sync" in with_uv
        assert " -m pip " not in with_uv
        assert "uv sync" not in with_pip
        assert "-m pip install" in with_pip


@pytest.mark.skipif(not shutil.which("uv"), reason="needs uv")
def test_uv_lock_is_up_to_date_and_so_are_the_lists_for_pip(tmp_path: Path) -> None:
    subprocess.run(["uv", "lock", "--check", "--offline"], cwd=PROJECT, check=True)
    for name in ("pyproject.toml", "Makefile", "uv.lock"):
        shutil.copy(PROJECT / name, tmp_path)
    subprocess.run(["make", "lock", "UPGRADE=--offline"], cwd=tmp_path, check=True)
    for name in LISTS:
        assert (tmp_path / name).read_text("utf-8") == (PROJECT / name).read_text("utf-8"), "run `make lock UPGRADE=`"
