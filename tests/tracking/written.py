"""The files of a trained ablation, as the stages leave them, and what is shown of them."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline import files
from pipeline.params import Tracking
from pipeline.tracking import Run, connect
from pipeline.tracking.ablations import LiveRuns, result_digest
from pipeline.training.convergence import History, history_columns
from tests.conftest import ablation

NAME = "nope-causal"
SEEDS = (1, 2)
STEPS = (4, 8)
DATA = {"train.csv": "a" * 64, "validation.csv": "b" * 64, "test.csv": "c" * 64}
CELL = ablation(NAME, model_={"residual_free": [1]}, seeds=list(SEEDS), converged_for=1)


def evaluations(step: int) -> History:
    """What training says at a step: seed 1 converges at step 8, seed 2 diverges there."""
    nan = float("nan")
    rows: History = []
    for seed in SEEDS:
        diverged = seed == 2 and step == 8
        exact = {4: 0.25, 8: 1.0}[step] if seed == 1 else 0.0
        loss = nan if diverged else 1 / step
        rows.append(
            dict(zip(history_columns(), (seed, step, loss, loss, exact, loss, 0.01, int(diverged)), strict=True))
        )
    return rows


def write_ablation(project: Path, *, weights: bytes = b"weights", history: History | None = None) -> Path:
    """A trained ablation's files, as the stage `train` leaves them."""
    folder = project / "models" / NAME
    rows = history or [row for step in STEPS for row in evaluations(step)]
    contents = {f"seed-{seed}.safetensors": weights + str(seed).encode() for seed in SEEDS}
    for name, content in contents.items():
        files.write_bytes(folder / name, content)
    files.write_csv(folder / "history.csv", pd.DataFrame(rows, columns=history_columns()))
    config = {
        "ablation": NAME,
        "task": CELL.task.model_dump(mode="json"),
        "model": CELL.model.model_dump(mode="json"),
        "training": CELL.training.model_dump(mode="json"),
        "vocabulary": ["0", "1", "+", "="],
        "length": 9,
        "parameters": 10,
        "dataset": {"name": CELL.dataset, "digests": DATA},
    }
    files.write_json(folder / "config.json", config)
    files.write_manifest(folder, of=NAME)
    return folder


def write_evaluation(project: Path, *, exact: float = 0.9, of: str = "") -> Path:
    """The ablation's evaluation, as the stage `evaluate` leaves it; `of` another training than the last?"""
    rows = [
        {
            "ablation": NAME,
            "seed": seed,
            "steps": 8,
            "converged": converged,
            "steps_to_converge": 8 if converged else None,
            "diverged": 1 - converged,
            "validation_exact_match": float(converged),
            "test_exact_match": exact * converged,
            "test_examples": 50,
            "place_1": exact,
            "stratum_0": exact,
            "stratum_0_examples": 20,
        }
        for seed, converged in zip(SEEDS, (1, 0), strict=True)
    ]
    path = project / "reports" / "evaluation" / NAME / "evaluation.csv"
    files.write_csv(path, pd.DataFrame(rows))
    files.write_manifest(path.parent, of=of or files.open_verified(project / "models" / NAME, made_by="").digest)
    return path


def live(settings: Tracking) -> LiveRuns:
    return LiveRuns(settings, CELL, DATA)


def stop_after(settings: Tracking, rows: History, how: type[BaseException]) -> None:
    """Train until something ends it."""

    def train() -> None:
        with live(settings) as watching:
            watching.log_evaluation(rows)
            raise how

    with pytest.raises(how):
        train()


def runs(settings: Tracking) -> dict[int | None, Run]:
    """The ablation's runs by seed; None: its own. No two have the same."""
    found = connect(settings).find(result_digest(CELL, DATA))
    shown = {int(run.tags["seed"]) if "seed" in run.tags else None: run for run in found}
    assert len(shown) == len(found)
    return shown


def ids(settings: Tracking) -> set[str]:
    return {run.id for run in runs(settings).values()}


Curves = dict[tuple[int | None, str], dict[int, float]]


def curves(settings: Tracking) -> Curves:
    """(Seed, metric) -> every point in it."""
    store = connect(settings)
    return {
        (seed, metric): store.points(run.id, metric)
        for seed, run in runs(settings).items()
        for metric in run.metrics
        if metric != "training_seconds"
    }
