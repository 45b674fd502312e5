"""The whole pipeline as a user runs it: a real project, a real `dvc repro`."""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from pipeline import dataset
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.stages import collect, evaluate, track
from pipeline.tasks.registry import read_params
from pipeline.training.artifact import read_artifact_trained_on
from tests.projects import (
    ELSEWHERE,
    REPRO,
    create_project,
    differing_files,
    environment,
    executed_stages,
    output_files,
    run,
)

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
    assert "\x1b" not in run(project, *REPRO, **ELSEWHERE)  # no frames of the table of a terminal
    assert differing_files(output_files(reproduced), output_files(project)) == set()
    assert executed_stages(run(project, "dvc", "repro", "report")) == []


def test_only_the_search_is_left_to_run_and_that_is_quickly_found(reproduced: Path) -> None:
    before = os.times()
    assert executed_stages(run(reproduced, "dvc", "repro", "--dry")) == ["search"]
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 10


@pytest.mark.parametrize(
    ("after", "stale"),
    [
        ("  two:\n    training: {learning_rate: 0.03}\n", {"train@two"}),  # its other stages follow
        ("  three: {task: addition}\n  two:\n", {"train@three", "evaluate@three", "analyze@three"}),
    ],
    ids=["changed", "added"],
)
def test_an_ablation_makes_only_itself_and_the_report_stale(
    reproduced: Path, tmp_path: Path, after: str, stale: set[str]
) -> None:
    project = Path(shutil.copytree(reproduced, tmp_path / "project", symlinks=True))
    before, two, rest = (project / "params.yaml").read_text().partition("  two:\n")
    assert two
    (project / "params.yaml").write_text(before + after + rest)
    listed = run(project, *REPRO, "--dry-run").splitlines()
    run(project, "dvc", "repro", "settings")
    status = json.loads(run(project, "dvc", "status", "--json"))
    assert set(status) - {"search"} == stale | {"collect", "report"}
    assert stale | {"collect", "report"} <= set(listed)
    assert not [name for name in listed if name.endswith(("@one", "@addition"))]


def test_with_json_what_was_stale_is_all_that_is_on_standard_output(reproduced: Path) -> None:
    command, variables = [*REPRO, "--json"], environment(reproduced)
    done = subprocess.run(command, cwd=reproduced, env=variables, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"report": "reports/index.html", "stale_stages": []}


def test_the_results_are_complete(reproduced: Path) -> None:
    reports = reproduced / "reports"
    runs = pd.read_csv(reports / "runs.csv")
    assert list(zip(runs["ablation"], runs["seed"], strict=True)) == [("one", 1), ("two", 1)]
    ablations = pd.read_csv(reports / "ablations.csv").set_index("ablation")
    assert ablations["order_blind_ceiling"].notna().to_dict() == {"one": False, "two": True}
    for name in ("summary.md", "index.html", "symmetry.csv", "learning_curves.csv"):
        assert (reports / name).stat().st_size > 100
    assert {path.suffix for path in (reports / "figures").iterdir()} == {".webp"}
    assert not [path for path in reproduced.rglob("*") if path.suffix in (".pkl", ".pt", ".ckpt")]
    assert "converged.two" in run(reproduced, "dvc", "metrics", "show")
    assert "html" in run(reproduced, "dvc", "plots", "show")


def test_every_run_is_tracked_once(reproduced: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow shows what the files hold, and `track` adds nothing."""
    monkeypatch.chdir(reproduced)
    track.run(read_params())
    client = MlflowClient(f"sqlite:///{reproduced}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'breaking-symmetry'")
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


def read_artifact(params: Params, folder: Path) -> None:
    ablation = params.ablation(folder.name)
    data = dataset.read(Path("data/addition"), ablation.task)
    artifact = read_artifact_trained_on(folder, ablation, data)
    assert all([*artifact.weights.values(), *artifact.snapshots.values()])


READERS: dict[str, Callable[[Params, Path], object]] = {
    "data": lambda params, folder: dataset.read(folder, params.task(folder.name)),
    "models": read_artifact,
    "reports/evaluation": lambda params, folder: collect.run(params),
    "reports/analysis": lambda params, folder: collect.run(params),
}
"""Folder that stages write -> a function that reads all of one folder in it."""


def test_a_flipped_bit_in_any_file_is_found_by_its_reader(reproduced: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is one line that names the folder and the command that makes it again."""
    monkeypatch.chdir(reproduced)
    params, generator = read_params(), random.Random(os.getpid())
    files = {folder: sorted(path for path in Path(folder).glob("*/**/*") if path.is_file()) for folder in READERS}
    assert {path.suffix for paths in files.values() for path in paths} == {".csv", ".json", ".safetensors"}
    for folder, path in [(folder, path) for folder, paths in files.items() for path in paths]:
        altered = bytearray(path.read_bytes())
        altered[generator.randrange(len(altered))] ^= 1 << generator.randrange(8)
        with replaced(path, bytes(altered)), pytest.raises(UserError) as refusal:
            READERS[folder](params, Path(folder, path.relative_to(folder).parts[0]))
        message = str(refusal.value)
        assert str(path.parent) in message
        assert "python -m pipeline " in message
        assert "\n" not in message
    assert executed_stages(run(reproduced, "dvc", "repro", "report")) == []
