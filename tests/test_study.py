"""A study is the same pipeline two folders down, and leaves the default experiment alone."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from pipeline import study
from pipeline.errors import UserError
from pipeline.params import read
from pipeline.tasks.catalogue import problems
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
    assert made.all_ablations() == default.all_ablations()
    assert made.search == default.search
    assert (made.tracking.uri, made.tracking.experiment) == (seen, "mine-again")
    assert (project / "params.yaml").read_bytes() == before


def test_made_again_it_keeps_what_was_written(project: Path) -> None:
    folder = study.make("kept")
    mine = {name: f"{(folder / name).read_text()}# mine\n" for name in ("params.yaml", "README.md")}
    for name, text in mine.items():
        (folder / name).write_text(text)
    (folder / "dvc.yaml").write_text("old")
    assert study.make("kept") == folder
    assert {name: (folder / name).read_text() for name in mine} == mine
    assert "generate" in loaded(folder / "dvc.yaml")["stages"]


def test_mistakes_leave_nothing(project: Path) -> None:
    with pytest.raises(UserError, match="the name 'No Study' is not allowed"):
        study.make("No Study")
    (project / "dvc.yaml").unlink()
    with pytest.raises(UserError, match=r"dvc\.yaml: no such file here"):
        study.make("lost")
    assert not (project / "studies").exists()


@pytest.mark.parametrize(
    "committed",
    sorted(path.parent for path in (PROJECT / "studies").glob("*/params.yaml")),
    ids=lambda committed: committed.name,
)
def test_a_committed_study_gets_the_projects_stages_and_stays_as_it_is(project: Path, committed: Path) -> None:
    folder = shutil.copytree(committed, project / "studies" / committed.name, ignore=shutil.ignore_patterns("reports"))
    study.make(committed.name)
    assert (folder / "dvc.yaml").read_text() == study.stages((project / "dvc.yaml").read_text())
    assert (folder / "params.yaml").read_bytes() == (committed / "params.yaml").read_bytes()
    read(folder / "params.yaml")


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


def test_a_study_of_ones_own_data_asks_what_order_is_worth_there(project: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=1200).cumsum()
    (tmp_path / "my prices.csv").write_text(pd.DataFrame({"day": range(1200), "price": values}).to_csv(index=False))
    folder = study.make("mine", data=Path("my prices.csv"), column="price")
    params = read(folder / "params.yaml")
    data, twin = (params.task(name) for name in params.tasks)
    assert twin == data.model_copy(update={"twin": True})
    assert {ablation.task.order_counts for ablation in params.all_ablations()} == {True, False}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sizes = {split: len(table) for split, table in problems(data).splits().items()}
    assert sizes == {"train": 500, "validation": 50, "test": 100}  # the most of TRAIN_SIZES that there are
    assert "my prices.csv" in paths(loaded(folder / "dvc.yaml")["stages"]["generate"])
    kept = (folder / "params.yaml").read_text()
    study.make("mine")  # its dvc.yaml anew
    study.make("mine", data=Path("my prices.csv"), column="price")  # the same question again
    assert (folder / "params.yaml").read_text() == kept
    assert "my prices.csv" in paths(loaded(folder / "dvc.yaml")["stages"]["generate"])
    with pytest.raises(UserError, match="studies/mine: is about something else than my prices"):
        study.make("mine", data=Path("my prices.csv"), column="day")
    (tmp_path / "my prices.csv").write_text("day,price\n1,2\n")
    with pytest.raises(UserError, match="studies/mine: is about something else than my prices"):
        study.make("mine", data=Path("my prices.csv"), column="price")


@pytest.mark.parametrize(
    ("data", "column", "said"),
    [
        ("missing.txt", None, "task.path: 'missing.txt' cannot be read"),
        ("few.txt", None, "more examples asked for than exist: 100"),
        ("README.md", None, "--data: README.md is what a file of the study itself is called; rename yours"),
        ("few.csv", None, "task.column: missing; which of 'few.csv'? (allowed: x, y)"),
        ("few.csv", "z", "task.column: 'z' is not in 'few.csv'"),
    ],
)
def test_data_that_will_not_do_leaves_no_study(project: Path, data: str, column: str | None, said: str) -> None:
    (project / "few.txt").write_text("only a few words")
    (project / "few.csv").write_text("x,y\n1,2\n3,4\n")
    with pytest.raises(UserError) as refusal:
        study.make("mine", data=Path(data), column=column)
    assert said in str(refusal.value)
    assert not (project / "studies").exists()
