"""A study is the same pipeline two folders down, and leaves the default experiment alone."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline import study
from pipeline.params import read
from pipeline.refusal import Refused
from tests.conftest import PRESETS

PROJECT = Path(__file__).parent.parent


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a study is made from."""
    shutil.copy(PROJECT / "dvc.yaml", tmp_path)
    shutil.copy(PRESETS / "smoke.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def paths(stage: dict[str, Any]) -> list[str]:
    """What a stage depends on."""
    return list(stage.get("do", stage).get("deps", []))


def test_its_stages_are_the_projects_with_the_code_two_folders_up(project: Path) -> None:
    folder = study.make("some-study")
    own, of_project = loaded(folder / "dvc.yaml")["stages"], loaded(project / "dvc.yaml")["stages"]
    assert list(own) == list(of_project)
    for name, stage in of_project.items():
        moved = [f"../../{path}" if path.startswith("pipeline/") else path for path in paths(stage)]
        assert paths(own[name]) == moved
        assert own[name].get("do", own[name])["cmd"] == stage.get("do", stage)["cmd"]
    code = [path for stage in own.values() for path in paths(stage) if path.startswith("../")]
    assert all((PROJECT / "studies" / "x" / path).resolve().exists() for path in code)


@pytest.mark.parametrize(
    ("uri", "seen"),
    [
        ("sqlite:///mlflow.db", "sqlite:///../../mlflow.db"),
        ("jsonl:runs.jsonl", "jsonl:../../runs.jsonl"),
        ("sqlite:////tmp/m.db", "sqlite:////tmp/m.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_it_is_the_same_experiment_at_first_with_the_same_store(project: Path, uri: str, seen: str) -> None:
    with (project / "params.yaml").open("a") as file:
        file.write(f"tracking:\n  uri: {uri}\n  experiment: mine\n")
    before = (project / "params.yaml").read_bytes()
    made, default = read(study.make("again") / "params.yaml"), read(project / "params.yaml")
    assert made.cells() == default.cells()
    assert made.search == default.search
    assert (made.tracking.uri, made.tracking.experiment) == (seen, "mine-again")
    assert (project / "params.yaml").read_bytes() == before


def test_made_again_it_keeps_what_was_written(project: Path) -> None:
    folder = study.make("kept")
    for name in ("params.yaml", "README.md"):
        (folder / name).write_text("mine")
    (folder / "dvc.yaml").write_text("old")
    assert study.make("kept") == folder
    assert {(folder / name).read_text() for name in ("params.yaml", "README.md")} == {"mine"}
    assert "generate" in loaded(folder / "dvc.yaml")["stages"]


def test_mistakes_leave_nothing(project: Path) -> None:
    with pytest.raises(Refused, match="the name 'No Study' is not allowed"):
        study.make("No Study")
    (project / "dvc.yaml").unlink()
    with pytest.raises(Refused, match=r"dvc\.yaml: no such file here"):
        study.make("lost")
    assert not (project / "studies").exists()


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in (PROJECT / "studies").glob("*/dvc.yaml")), ids=lambda folder: folder.name
)
def test_a_committed_study_is_up_to_date_and_valid(folder: Path) -> None:
    assert (folder / "dvc.yaml").read_text() == study.stages((PROJECT / "dvc.yaml").read_text())
    read(folder / "params.yaml")


@pytest.mark.end_to_end
def test_dvc_names_its_stages_as_the_projects(project: Path) -> None:
    """In its folder, so that a grid runs there as it does here."""
    shutil.copytree(PROJECT / ".dvc", project / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    shutil.copytree(PROJECT / "pipeline", project / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "--quiet"], check=True)
    folder = study.make("some-study")
    command = [sys.executable, "-m", "dvc", "stage", "list", "--names-only"]
    listed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split()
    assert {"generate@addition", "train@nope-causal", "report"} <= set(listed)
    assert not any("dvc.yaml" in name for name in listed)
