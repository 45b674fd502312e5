"""The whole pipeline as a user runs it: a real project, a real `dvc repro`."""

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from pipeline import dataset
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.stages import evaluate, report, track
from pipeline.tasks.registry import read_params
from pipeline.training.artifact import read_artifact_trained_on
from tests.conftest import output_files
from tests.projects import ELSEWHERE, REPRO, create_project, differing_files, executed_stages, run

pytestmark = pytest.mark.timeout(1800)


@contextmanager
def replaced(path: Path, content: bytes) -> Iterator[None]:
    """Replace a file until the end of the block; by another file, because DVC's cache may hold the original too."""
    original = path.rename(path.with_name(f".{path.name}.original"))
    path.write_bytes(content)
    yield
    original.replace(path)


def test_repro_writes_the_bytes_that_dvc_writes(reproduced: Path, tmp_path: Path, empty_store: Path) -> None:
    """In another folder, locale, time zone and hash order, with two jobs."""
    project = create_project(tmp_path / "project", empty_store)
    run(project, *REPRO, **ELSEWHERE)
    assert differing_files(output_files(reproduced), output_files(project)) == set()
    assert executed_stages(run(project, "dvc", "repro", "report")) == []


def test_only_the_search_is_left_to_run_and_that_is_quickly_found(reproduced: Path) -> None:
    before = os.times()
    assert executed_stages(run(reproduced, "dvc", "repro", "--dry")) == ["search"]
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 10


@pytest.mark.parametrize(
    ("before", "after", "stale"),
    [
        ("  two:\n", "  two:\n    training: {steps: 10}\n", {"train@two"}),  # its other stages follow
        (
            "  two:\n",
            "  three: {task: addition}\n  two:\n",
            {f"{stage}@three" for stage in ("train", "evaluate", "analyze")},
        ),
    ],
    ids=["changed", "added"],
)
def test_an_ablation_makes_only_itself_and_the_report_stale(
    reproduced: Path, before: str, after: str, stale: set[str]
) -> None:
    params = reproduced / "params.yaml"
    text = params.read_text()
    assert text.count(before) == 1
    with replaced(params, text.replace(before, after).encode()):
        status = json.loads(run(reproduced, "dvc", "status", "--json"))
    assert set(status) - {"search"} == stale | {"report"}


def test_the_results_are_complete(reproduced: Path) -> None:
    reports = reproduced / "reports"
    runs = pd.read_csv(reports / "runs.csv")
    assert list(zip(runs["ablation"], runs["seed"], strict=True)) == [("one", 1), ("two", 1)]
    ablations = pd.read_csv(reports / "ablations.csv").set_index("ablation")
    assert ablations["order_blind_ceiling"].notna().to_dict() == {"one": False, "two": True}
    for name in ("summary.md", "index.html", "symmetry.csv", "learning_curves.csv"):
        assert (reports / name).stat().st_size > 100
    assert {path.suffix for path in (reports / "figures").iterdir()} == {".png"}
    assert not [path for path in reproduced.rglob("*") if path.suffix in (".pkl", ".pt", ".ckpt")]


def test_dvc_shows_metrics_and_plots(reproduced: Path) -> None:
    assert "converged.two" in run(reproduced, "dvc", "metrics", "show")
    assert "html" in run(reproduced, "dvc", "plots", "show")


def test_every_run_is_tracked_once(reproduced: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow shows what the files hold, and `track` adds nothing."""
    monkeypatch.chdir(reproduced)
    track.run(read_params())
    client = MlflowClient(f"sqlite:///{reproduced}/mlflow.db")
    experiment = client.get_experiment_by_name("breaking-symmetry")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.ablation != ''")
    assert len(runs) == 4
    assert sum("mlflow.parentRunId" in run.data.tags for run in runs) == 2


def test_altered_weights_are_refused_and_the_old_evaluation_stays(
    reproduced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reproduced)
    weights, evaluation = Path("models/two/seed-1.safetensors"), Path("reports/evaluation/two/evaluation.csv")
    before, original = evaluation.read_bytes(), weights.read_bytes()
    for content in (original[:-1] + bytes([original[-1] ^ 1]), original[:-100]):
        with replaced(weights, content), pytest.raises(UserError, match=weights.name):
            evaluate.run(read_params(), "two")
    assert evaluation.read_bytes() == before


def read_dataset(params: Params, path: Path) -> None:
    dataset.read(Path(*path.parts[:2]), params.task(path.parts[1]))


def read_artifact(params: Params, path: Path) -> None:
    ablation = params.ablation(path.parts[1])
    artifact = read_artifact_trained_on(
        Path(*path.parts[:2]), ablation, dataset.read(Path("data/addition"), ablation.task)
    )
    assert all([*artifact.weights.values(), *artifact.snapshots.values()])


def make_report(params: Params, path: Path) -> None:
    report.run(params)


READERS: dict[str, Callable[[Params, Path], None]] = {
    "data": read_dataset,
    "models": read_artifact,
    "reports/evaluation": make_report,
    "reports/analysis": make_report,
}
"""Folder that stages write -> a function that reads all of it."""


def test_a_flipped_bit_in_any_file_is_found_by_its_reader(reproduced: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is one line that names the folder and the command that makes it again."""
    monkeypatch.chdir(reproduced)
    params, generator = read_params(), random.Random(os.getpid())
    paths = sorted(path for folder in READERS for path in Path(folder).glob("*/**/*") if path.is_file())
    assert {path.suffix for path in paths} == {".csv", ".json", ".safetensors"}
    assert len(paths) > 20
    for path in paths:
        altered = bytearray(path.read_bytes())
        altered[generator.randrange(len(altered))] ^= 1 << generator.randrange(8)
        reader = READERS[next(folder for folder in READERS if path.is_relative_to(folder))]
        with replaced(path, bytes(altered)), pytest.raises(UserError) as refusal:
            reader(params, path)
        message = str(refusal.value)
        assert str(path.parent) in message
        assert "python -m pipeline " in message
        assert "\n" not in message
    assert executed_stages(run(reproduced, "dvc", "repro", "report")) == []
