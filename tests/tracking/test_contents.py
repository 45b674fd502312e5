"""Runs show the numbers of the files, and damaged files are refused in one line."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline import files
from pipeline.errors import UserError
from pipeline.params import Tracking
from pipeline.reporting.intervals import summarise_restricted_mean, summarise_share
from pipeline.tasks.registry import parse_task
from pipeline.tracking.ablations import sync_runs
from pipeline.tracking.contents import build_metrics
from pipeline.tracking.store import open_store
from pipeline.training.artifact import Artifact
from tests.conftest import model
from tests.tracking.helpers import ABLATION, SEEDS, synced, write_ablation, write_evaluation


def test_a_seed_shows_its_numbers_and_its_tasks_breakdown(tmp_path: Path) -> None:
    folder = write_ablation(tmp_path)
    table = pd.read_csv(write_evaluation(folder)).assign(verdict="words", empty=float("nan"))
    metrics = build_metrics(ABLATION, table)[1]
    in_steps = {"steps", "steps_trained", "steps_to_50", "steps_to_90", "area_above_curve"}
    summary = {f"summary/{name}" for name in {"converged", "diverged"} | in_steps}
    assert set(metrics) == summary | {"test/exact_match", "test/place_1", "test/stratum_0"}
    assert metrics["test/stratum_0"] == 0.9


def test_an_ablation_shows_the_reports_mean_and_interval_of_its_runs_steps(tmp_path: Path) -> None:
    """A run that did not converge counts as its budget, so MLflow's mean over runs is the ablation's."""
    table = pd.read_csv(write_evaluation(write_ablation(tmp_path))).assign(steps_to_converge=[4, None])
    metrics = build_metrics(ABLATION, table)
    parent, children = metrics[None], [metrics[seed] for seed in SEEDS]
    assert [child["summary/steps"] for child in children] == [4, ABLATION.training.steps]
    assert parent["summary/steps"] == sum(child["summary/steps"] for child in children) / parent["summary/n"]
    expected = summarise_restricted_mean([4, 8], 8)
    ends = [parent[f"summary/steps_{end}"] for end in ("low", "high")]
    assert ends == pytest.approx([expected["low"], expected["high"]], rel=1e-3)
    share = summarise_share(1, 2)
    assert parent["summary/converged_share_low"] == pytest.approx(share["low"], rel=1e-3)


def test_an_ablation_that_cannot_converge_by_proof_shows_no_interval_and_no_steps(tmp_path: Path) -> None:
    table = pd.read_csv(write_evaluation(write_ablation(tmp_path))).assign(converged=0, steps_to_converge=None)
    blind = ABLATION.model_copy(update={"model": model(attention="full")})
    for ablation, is_shown in ((ABLATION, True), (blind, False)):
        names = build_metrics(ablation, table)[None].keys()
        assert {"summary/n", "summary/converged", "summary/converged_share"} <= names
        assert {"summary/steps", "summary/steps_low", "summary/converged_share_high"} <= names or not is_shown
        assert any(name.endswith(("_low", "_high")) or name == "summary/steps" for name in names) == is_shown


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
