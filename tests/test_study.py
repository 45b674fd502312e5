"""A study is the same pipeline two folders down, and leaves the default experiment alone."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline import study
from pipeline.errors import UserError
from pipeline.params import Tracking
from pipeline.tasks.registry import read_params
from pipeline.tasks.windows import SeriesWindows
from tests.conftest import PRESETS

PROJECT = Path(__file__).parent.parent


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files that a study is created from."""
    shutil.copy(PROJECT / "dvc.yaml", tmp_path)
    shutil.copy(PRESETS / "smoke.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stages(folder: Path) -> dict[str, Any]:
    """Name of each stage of a dvc.yaml -> its declaration."""
    declared = YAML(typ="safe").load(folder / "dvc.yaml")["stages"]
    return {name: stage.get("do", stage) for name, stage in declared.items()}


def test_its_stages_are_the_projects_with_the_code_two_folders_up(project: Path) -> None:
    folder = study.create_study("some-study")
    ours, theirs = stages(folder), stages(project)
    assert list(ours) == list(theirs)
    for name, stage in theirs.items():
        moved = [f"../../{path}" if path.startswith("pipeline/") else path for path in stage["deps"]]
        assert ours[name]["deps"] == moved
        assert ours[name]["cmd"] == stage["cmd"]
        assert all((PROJECT / path).exists() for path in stage["deps"] if path.startswith("pipeline/"))


@pytest.mark.parametrize(
    ("uri", "in_study"),
    [
        ("sqlite:///m.db", "sqlite:///../../m.db"),
        *[(uri, uri) for uri in ("sqlite:////tmp/m.db", "http://localhost:5000")],
    ],
)
def test_it_begins_as_the_projects_experiment_with_the_same_store(project: Path, uri: str, in_study: str) -> None:
    with (project / "params.yaml").open("a") as file:
        file.write(f"tracking:\n  uri: {uri}\n  experiment: mine\n")
    before = (project / "params.yaml").read_bytes()
    created, default = read_params(study.create_study("again") / "params.yaml"), read_params(project / "params.yaml")
    tracking = Tracking(uri=in_study, experiment="mine-again")
    assert created == default.model_copy(update={"tracking": tracking})
    assert (project / "params.yaml").read_bytes() == before


@pytest.mark.parametrize(("name", "preset"), [("smoke", None), ("published", None), ("mine", "own")])
def test_it_begins_with_a_preset_and_nothing_else_changes(project: Path, name: str, preset: str | None) -> None:
    (project / "params.yaml").write_text((PRESETS / "own.yaml").read_text())
    before = {path: path.read_bytes() for path in project.iterdir() if path.is_file()}
    created = read_params(study.create_study(name, preset=preset) / "params.yaml")
    expected = read_params(PRESETS / f"{preset or name}.yaml")
    assert created.model_copy(update={"tracking": expected.tracking}) == expected
    assert before == {path: path.read_bytes() for path in project.iterdir() if path.is_file()}


@pytest.mark.parametrize("path", ["own/book.txt", str(PROJECT / "README.md")])
def test_a_copied_study_reads_the_file_that_the_project_reads(project: Path, path: str) -> None:
    Path("own").mkdir()
    Path("own/book.txt").write_text("the file of the project")
    content = YAML(typ="safe").load(project / "params.yaml")
    sizes = {"train_size": 1, "validation_size": 1, "test_size": 1}
    content["tasks"]["own"] = {"name": "text", "path": path, "window": 4, **sizes}
    YAML().dump(content, project / "params.yaml")
    folder = study.create_study("rel")
    copied = (folder / read_params(folder / "params.yaml").tasks["own"].path).resolve()  # type: ignore[attr-defined]
    assert copied == (project / path).resolve()
    assert any((folder / dependency).resolve() == copied for dependency in stages(folder)["generate"]["deps"])


def test_created_again_it_keeps_what_was_edited(project: Path) -> None:
    folder = study.create_study("kept")
    edited = {name: f"{(folder / name).read_text()}# mine\n" for name in ("params.yaml", "README.md")}
    for name, text in edited.items():
        (folder / name).write_text(text)
    (folder / "dvc.yaml").write_text("old")
    assert study.create_study("kept") == folder
    assert {name: (folder / name).read_text() for name in edited} == edited
    assert "generate" in stages(folder)


@pytest.mark.parametrize("committed", sorted(PROJECT.glob("studies/*/params.yaml")), ids=lambda path: path.parent.name)
def test_a_committed_study_gets_the_projects_stages_and_stays_as_it_is(project: Path, committed: Path) -> None:
    shutil.copytree(committed.parent, folder := Path("studies") / committed.parent.name)
    study.create_study(folder.name)
    assert list(stages(folder)) == list(stages(project))
    assert (folder / "params.yaml").read_bytes() == committed.read_bytes()


def test_dvc_names_its_stages_as_the_projects(project: Path) -> None:
    """`repro` refers to stages by these names."""
    shutil.copytree(PROJECT / ".dvc", project / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    subprocess.run(["git", "init", "--quiet"], check=True)
    folder = study.create_study("some-study")
    command = [sys.executable, "-m", "dvc", "stage", "list", "--names-only"]
    names = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split()
    assert {"generate@addition", "train@nope-causal", "report"} <= set(names)
    assert not any("dvc.yaml" in name for name in names)


ODD_NAMES = (
    *(
        "[draft] book.txt",
        "Chapter: one.txt",
        "Report #3.txt",
        "*.txt",
        "#hash.txt",
        "&amp.txt",
        "@home.txt",
        "- x.txt",
    ),
    *(
        "| x.txt",
        "> x.txt",
        "it's.txt",
        'a "quoted" one.txt',
        "null",
        "価格.txt",
        "${tasks}.txt",
        "a\\b.txt",
        "100%.txt",
    ),
    *("{x}.txt", "!tag.txt", "? x.txt", "$HOME.txt", "%20.txt", "tab\there.txt", "`x`.txt"),
)


def test_a_file_may_have_any_name(project: Path) -> None:
    """DVC finds each file, and so can read the dvc.yaml of every study."""
    shutil.copytree(PROJECT / ".dvc", project / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    subprocess.run(["git", "init", "--quiet"], check=True)
    text = "".join(np.random.default_rng(1).choice(list("abc "), 8000))
    (project / "names").mkdir()
    for index, name in enumerate(ODD_NAMES):
        (project / "names" / name).write_text(text)
        study.create_study(f"study-{index}", data=Path("names") / name)
    with Repo(str(project)) as repo:
        dependencies = {
            Path(dep.fs_path).name
            for stage in repo.index.stages
            if stage.addressing.startswith("studies/") and ":generate@" in stage.addressing
            for dep in stage.deps
            if Path(dep.fs_path).parent.parent.name == "studies" and Path(dep.fs_path).name != "params.yaml"
        }
    assert dependencies == set(ODD_NAMES)


def test_a_study_of_ones_own_data_measures_what_order_is_worth_there(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = project / "my prices.csv"
    prices = np.random.default_rng(1).normal(size=1200).cumsum()
    data.write_text(pd.DataFrame({"day": range(1200), "price": prices}).to_csv(index=False))
    folder = study.create_study("mine", data=Path(data.name), column="price")
    params = read_params(folder / "params.yaml")
    task, shuffled = (params.task(name) for name in params.tasks)
    assert shuffled == task.model_copy(update={"shuffled": True})
    assert {ablation.task.order_matters for ablation in params.all_ablations()} == {True, False}
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        sizes = {split: len(table) for split, table in task.draw_splits().items()}
    assert sizes == {"train": 500, "validation": 50, "test": 100}  # the largest of TRAIN_SIZES that 1,200 rows allow
    kept = (folder / "params.yaml").read_text()
    study.create_study("mine")
    study.create_study("mine", data=Path(data.name), column="price")
    assert (folder / "params.yaml").read_text() == kept
    assert data.name in stages(folder)["generate"]["deps"]
    with pytest.raises(UserError, match="studies/mine: is about other data"):
        study.create_study("mine", data=Path(data.name), column="day")
    data.write_text("day,price\n1,2\n")
    with pytest.raises(UserError, match="studies/mine: is about other data"):
        study.create_study("mine", data=Path(data.name), column="price")


def test_the_only_column_of_numbers_may_be_named_or_not(project: Path) -> None:
    prices = np.random.default_rng(1).normal(size=1200).cumsum()
    pd.DataFrame({"day": "Monday", "price": prices}).to_csv("one.csv", index=False)
    folder = study.create_study("mine", data=Path("one.csv"))
    assert study.create_study("mine", data=Path("one.csv"), column="price") == folder
    params = read_params(folder / "params.yaml")
    assert {params.task(name).column for name in params.tasks} == {"price"}  # type: ignore[attr-defined]


def test_an_existing_study_is_not_begun_anew_with_a_preset(project: Path) -> None:
    before = (study.create_study("mine", preset="smoke") / "params.yaml").read_bytes()
    with pytest.raises(UserError, match=r"--preset own: studies/mine exists already"):
        study.create_study("mine", preset="own")
    assert (study.create_study("mine") / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("preset", study.PRESET_ANSWERS)
def test_the_answers_of_a_preset_are_about_its_ablations(project: Path, preset: str) -> None:
    folder = study.create_study("mine", preset=preset)
    answers, ablations = (folder / "answers.md.j2").read_text(), read_params(folder / "params.yaml").ablations
    assert answers.startswith("# ")
    assert {name for name in re.findall(r'"([\w-]+)"', answers) if "-" in name} <= set(ablations)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("No Study", {}, "'No Study'"),
        ("mine", {"data": Path("missing.txt")}, "--data: 'missing.txt'"),
        ("mine", {"data": Path("few.txt")}, "train_size.*100"),
        *[
            ("mine", {"data": Path(name)}, f"--data: {name}.*not allowed: .*data")
            for name in ("README.md", "data", "models", "Reports", "dvc.lock")
        ],
        ("mine", {"data": Path("few.csv")}, "--column.*x, y"),
        ("mine", {"data": Path("few.csv"), "column": "z"}, "--column: 'z'.*few.csv"),
    ],
)
def test_a_mistake_leaves_no_study(project: Path, name: str, options: dict[str, Any], message: str) -> None:
    (project / "few.txt").write_text("only a few words")
    (project / "few.csv").write_text("x,y\n1,2\n3,4\n")
    with pytest.raises(UserError, match=message):
        study.create_study(name, **options)
    (project / "dvc.yaml").unlink()
    with pytest.raises(UserError, match=r"dvc\.yaml"):
        study.create_study("outside-a-project")
    assert not (project / "studies").exists()


@pytest.mark.parametrize("name", ["Prices.CSV", "prices.tsv", "prices.txt"])
def test_a_table_of_any_form_is_studied_by_its_column(
    project: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = np.random.default_rng(1).normal(size=1200).cumsum().round(2)
    rows = [f"{day};{price};{day % 7};".replace(".", ",") for day, price in enumerate(prices)]
    (project / name).write_text("\n".join(["day;price;volume", *rows]), encoding="utf-16")
    folder = study.create_study("mine", data=Path(name), column="price")
    message = capsys.readouterr().err
    assert all(words in message for words in (name, "semicolon", "decimal comma", "'price'", "utf_16"))
    study.create_study("mine", data=Path(name), column="price")  # the same data
    params = read_params(folder / "params.yaml")
    monkeypatch.chdir(folder)
    for task in map(params.task, params.tasks):
        assert isinstance(task, SeriesWindows)
        np.testing.assert_array_equal(task.read_values(), prices)
