"""The command line: quick to answer, one clear line for a mistake, exit code 2."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import PRESETS

PROJECT = Path(__file__).parent.parent


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(PRESETS / "smoke.yaml", tmp_path / "params.yaml")
    return tmp_path


def test_help_lists_every_stage_and_answers_at_once(tmp_path: Path) -> None:
    start = time.monotonic()
    said = run(tmp_path, "--help").stdout
    assert time.monotonic() - start < 3  # 0.3 s on an idle machine
    for stage in ("generate", "train", "evaluate", "analyze", "report", "search", "track", "preset", "check"):
        assert stage in said


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys, pipeline.cli; print([m for m in ('torch', 'pandas', 'mlflow', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("layer", ["training", "measurement", "transformer", "tasks"])
def test_lower_layers_import_no_tool_of_the_upper_ones(layer: str) -> None:
    """A GPU box with only torch and Lightning can train."""
    script = (
        "import importlib, pkgutil, sys, pipeline\n"
        f"package = importlib.import_module('pipeline.{layer}')\n"
        "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "print([m for m in ('mlflow', 'optuna', 'dvc', 'pipeline.tracking', 'pipeline.reporting') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_search_meets_its_storage_before_it_imports_what_is_slow() -> None:
    script = (
        "import sys, pipeline.stages.search\n"
        "print([m for m in ('torch', 'mlflow', 'matplotlib', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "nonsense"), "ablation 'nonsense': not in params.yaml"),
        (("train", "learned-causal"), "`python -m pipeline generate` makes it"),
        (("evaluate", "learned-causal"), "`python -m pipeline generate` makes it"),
        (("analyze", "learned-causal"), "`python -m pipeline generate` makes it"),
        (("report",), "makes it"),
        (("search",), "`python -m pipeline generate` makes it"),
        (("search", "--workers", "0"), "--workers: must be auto or a number from 1 on, not '0'"),
        (("search", "--engine", "magic"), "--engine: 'magic' is none (allowed: processes, ray)"),
        (("preset", "nonsense"), "preset 'nonsense': there is none (allowed: laptop, published, smoke)"),
    ],
)
def test_a_mistake_costs_one_line_and_leaves_nothing(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    done = run(folder, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["params.yaml"]


def test_a_preset_does_not_overwrite_changes_unless_told_to(folder: Path) -> None:
    assert run(folder, "preset", "laptop").returncode == 0
    assert (folder / "params.yaml").read_text() == (PRESETS / "laptop.yaml").read_text()
    (folder / "params.yaml").write_text("# mine\n" + (PRESETS / "laptop.yaml").read_text())
    refused = run(folder, "preset", "smoke")
    assert refused.returncode == 2
    assert "changes of your own" in refused.stderr
    assert (folder / "params.yaml").read_text().startswith("# mine")
    assert run(folder, "preset", "smoke", "--force").returncode == 0
