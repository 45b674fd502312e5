"""A small experiment."""

import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import PRESETS

PROJECT = Path(__file__).parent.parent.parent


@pytest.fixture
def project(tmp_path: Path, empty_store: Path) -> Path:
    """A DVC project with two quick ablations, and nothing made yet."""
    return experiment(tmp_path / "project", empty_store)


def experiment(folder: Path, empty_store: Path) -> Path:
    """The same, in this folder."""
    for name in ("pipeline", ".dvc"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("cache", "tmp", "__pycache__"))
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(PROJECT / name, folder / name)
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    content = YAML(typ="safe").load(PRESETS / "smoke.yaml")
    ablation = {"task": "addition", "model": {"positional": "none", "layers": 1}}
    content |= {
        "tasks": {"addition": content["tasks"]["addition"]},
        "ablations": {"one": ablation, "two": ablation},
        "comparisons": [],
        "training": content["training"] | {"seeds": [1], "snapshots": 0, "steps": 20, "evaluate_every": 10},
    }
    shutil.copy(empty_store, folder / "mlflow.db")
    write(folder, content)
    return folder


def write(project: Path, content: dict[str, object]) -> None:
    YAML().dump(content, project / "params.yaml")


def changed(project: Path, section: str, **settings: object) -> None:
    """Change settings in its params.yaml."""
    content = YAML(typ="safe").load(project / "params.yaml")
    content[section] |= settings
    write(project, content)
