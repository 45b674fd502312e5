"""The files of a trained ablation, as the stages leave them, and its runs in MLflow."""

from pathlib import Path

import pandas as pd
import torch

from pipeline import files
from pipeline.params import Ablation, Tracking
from pipeline.tracking.ablations import LiveRuns, RunsBySeed, result_digest, sync_runs
from pipeline.tracking.store import open_store
from pipeline.training.artifact import Artifact
from pipeline.training.convergence import HistoryRows, history_columns
from tests.conftest import ablation

NAME = "nope-causal"
SEEDS = (1, 2)
NAN = float("nan")
STEPS = (4, 8)
DATA = {"train.csv": "a" * 64, "validation.csv": "b" * 64, "test.csv": "c" * 64}
ABLATION = ablation(NAME, model_={"residual_free": [1]}, seeds=list(SEEDS), converged_for=1)


def evaluations(step: int) -> HistoryRows:
    """The evaluation of both seeds at a step: seed 1 converges at step 8, seed 2 diverges there."""
    loss, exact = 1 / step, {4: 0.25, 8: 1.0}[step]
    first = (1, step, loss, loss, exact, loss, 0.01, 0)
    second = (2, step, loss, loss, 0.0, loss, 0.01, 0) if step < 8 else (2, step, NAN, NAN, 0.0, NAN, 0.01, 1)
    return [dict(zip(history_columns(), values, strict=True)) for values in (first, second)]


def write_ablation(project: Path, *, weight: float = 0.0, of: Ablation = ABLATION, parameter_count: int = 1) -> Path:
    """The folder of a trained ablation, as the stage `train` leaves it."""
    history = pd.DataFrame([row for step in STEPS for row in evaluations(step)])
    weights = {seed: {"weight": torch.full((1,), weight)} for seed in SEEDS}
    folder = project / "models" / of.name
    vocabulary = ["0", "1", "+", "="]
    artifact = Artifact(of, vocabulary, 9, parameter_count, dataset_digests=DATA, history=history, weights=weights)
    artifact.write(folder)
    return folder


def write_evaluation(folder: Path, *, exact: float = 0.9, of: str = "") -> Path:
    """The evaluation of the ablation in `folder`, as the stage `evaluate` leaves it, or one `of` another training."""
    columns = {
        "ablation": folder.name,
        "seed": SEEDS,
        "steps": 8,
        "converged": [1, 0],
        "steps_to_50": [8, None],
        "steps_to_90": [8, None],
        "steps_to_converge": [8, None],
        "area_above_curve": [3.0, 8.0],
        "diverged": [0, 1],
        "validation_exact_match": [1.0, 0.0],
        "test_exact_match": [exact, 0.0],
        "test_examples": 50,
        "place_1": exact,
        "stratum_0": exact,
        "stratum_0_examples": 20,
    }
    path = folder.parents[1] / "reports" / "evaluation" / folder.name / "evaluation.csv"
    files.write_csv(path, pd.DataFrame(columns))
    files.write_manifest(path.parent, subject=of or files.open_verified_folder(folder, creating_command="").digest)
    return path


def synced(settings: Tracking, folder: Path, evaluation: Path | None = None) -> str:
    """Synchronise the runs with the ablation's files; returns what was done."""
    return sync_runs(open_store(settings), ABLATION, folder, evaluation)


def live(settings: Tracking, ablation: Ablation = ABLATION) -> LiveRuns:
    return LiveRuns(settings, ablation, DATA)


def runs(settings: Tracking, ablation: Ablation = ABLATION) -> RunsBySeed:
    """The ablation's runs. No two are of the same seed."""
    results = open_store(settings).find_runs(f"tags.result_digest = '{result_digest(ablation, DATA)}'")
    by_seed = {int(run.data.tags["seed"]) if "seed" in run.data.tags else None: run for run in results}
    assert len(by_seed) == len(results)
    return by_seed


def ids(settings: Tracking) -> set[str]:
    return {run.info.run_id for run in runs(settings).values()}


def curves(settings: Tracking) -> dict[tuple[int | None, str], dict[int, float]]:
    """(Seed, metric) -> step -> value."""
    store = open_store(settings)
    return {
        (seed, metric): store.read_curve(run, metric)
        for seed, run in runs(settings).items()
        for metric in run.data.metrics.keys() - {"summary/training_seconds"}
    }
