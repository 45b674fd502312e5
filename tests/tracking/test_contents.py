"""Runs show the numbers of the files, and damaged files are refused in one line."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline import files
from pipeline.errors import UserError
from pipeline.params import Tracking
from pipeline.tasks.registry import parse_task
from pipeline.tracking.ablations import sync_runs
from pipeline.tracking.contents import build_metrics
from pipeline.tracking.store import open_store
from pipeline.training.artifact import Artifact
from tests.conftest import model
from tests.tracking.helpers import ABLATION, synced, write_ablation, write_evaluation


def test_a_seed_shows_its_numbers_and_its_tasks_breakdown(tmp_path: Path) -> None:
    folder = write_ablation(tmp_path)
    table = pd.read_csv(write_evaluation(folder)).assign(verdict="words", empty=float("nan"))
    metrics = build_metrics(table)[1]
    in_steps = {"steps", "steps_to_50", "steps_to_90", "steps_to_converge", "area_above_curve"}
    outcome = {"converged", "diverged", "test_exact_match"} | in_steps
    assert set(metrics) == outcome | {"place_1", "stratum_0"}
    assert metrics["stratum_0"] == 0.9


def test_runs_are_those_of_the_ablation_as_it_was_trained(store: Tracking, tmp_path: Path) -> None:
    changed = ABLATION.model_copy(update={"model": model(layers=5)})
    sync_runs(open_store(store), changed, write_ablation(tmp_path))
    assert {run.data.tags["layers"] for run in open_store(store).find_runs("tags.role = 'run'")} == {"2"}


@pytest.mark.parametrize("missing", ["manifest.json", "config.json", "history.csv", "seed-2.safetensors"])
def test_another_ablations_files_and_a_missing_file_are_refused(store: Tracking, tmp_path: Path, missing: str) -> None:
    folder = write_ablation(tmp_path)
    with pytest.raises(UserError, match=r"nope-causal.*another"):
        sync_runs(open_store(store), ABLATION.model_copy(update={"name": "another"}), folder)
    (folder / missing).unlink()
    with pytest.raises(UserError, match=f"{missing}: [Nn]o such file"):
        synced(store, folder)


@pytest.mark.parametrize("key", ["task", "model", "training", "dataset"])
@pytest.mark.parametrize("damage", [None, 5, [], "word", {"odd": 1}])
def test_a_configuration_of_another_version_is_refused_in_a_line(tmp_path: Path, key: str, damage: object) -> None:
    folder = write_ablation(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for other in (config | {key: damage}, {name: value for name, value in config.items() if name != key}):
        files.write_json(folder / "config.json", other)
        files.write_manifest(folder, subject=ABLATION.name)
        with pytest.raises(UserError, match=r"config\.json: ") as refusal:
            Artifact.read(folder, parse_task)
        assert "\n" not in str(refusal.value)
