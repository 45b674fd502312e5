"""Tasks scored in bits per token: when runs converge, and which weights are kept."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from pipeline import files
from pipeline.dataset import Dataset
from pipeline.measurement.common.scoring import bits_per_token
from pipeline.params import Ablation
from pipeline.params.score import BITS
from pipeline.tasks.registry import parse_task
from pipeline.training.artifact import Artifact
from pipeline.training.convergence import (
    Convergence,
    compute_mean_learning_curve,
    compute_run_outcomes,
    history_columns,
)
from pipeline.training.fit import fit
from pipeline.transformer.model import Transformer
from tests.conftest import ablation
from tests.training.test_checkpoints import assert_same, kill, train

SIZES = {"train_size": 40, "validation_size": 20, "test_size": 20}
TASK = parse_task({"name": "series", "window": 6, "bins": 4, **SIZES})


def overfitting(**settings: object) -> Ablation:
    """Return an ablation that soon overfits, because it has few examples."""
    schedule = {"schedule": "constant", "steps": 60, "evaluate_every": 5, "learning_rate": 0.05}
    chosen = ablation("few", model_={"positional": "learned", "width": 32}, **(schedule | settings))
    return chosen.model_copy(update={"task": TASK})


RULE = Convergence.for_ablation(overfitting())


@pytest.fixture(scope="module")
def data(make_dataset) -> Dataset:
    return make_dataset(TASK)


@pytest.fixture(scope="module")
def trained(data: Dataset) -> Artifact:
    return fit(overfitting(), data)


def test_every_run_keeps_the_weights_of_its_best_evaluation(data: Dataset, trained: Artifact) -> None:
    history = trained.history
    assert list(history.columns) == history_columns(BITS)
    outcomes = compute_run_outcomes(history, RULE).set_index("seed")
    for seed, weights in trained.weights.items():
        model = Transformer(overfitting().model, **data.transformer_arguments)
        model.load_state_dict(weights)
        kept = bits_per_token(model.eval(), data.examples["validation"]).mean().item()
        run = history[history["seed"] == seed].set_index("step")["validation_bits"]
        for expected in (outcomes.loc[seed, "validation_bits"], run.min()):
            assert kept == pytest.approx(expected, rel=1e-5)
        assert kept < run[60] - 0.1  # at the last step the run has overfitted


def test_no_run_converges_without_a_threshold(trained: Artifact) -> None:
    outcomes = compute_run_outcomes(trained.history, RULE)
    assert outcomes[["converged", "steps_to_converge"]].isna().all(axis=None)
    assert (outcomes["steps"] == 60).all()
    assert list(compute_mean_learning_curve(trained.history, RULE)) == ["step", "validation_bits"]


def test_convergence_is_the_same_in_training_and_from_its_file(
    data: Dataset, trained: Artifact, tmp_path: Path
) -> None:
    """With a threshold that equals the best score of a run, to the last digit."""
    best = trained.history.groupby("seed")["validation_bits"].min()
    chosen = overfitting(converged_at_bits=float(best.min()), converged_for=1)
    history = fit(chosen, data).history
    files.write_csv(tmp_path / "history.csv", history)
    for rows in (history, pd.read_csv(tmp_path / "history.csv")):
        outcomes = compute_run_outcomes(rows, Convergence.for_ablation(chosen)).set_index("seed")
        assert outcomes.loc[best.idxmin(), "converged"] == 1
        assert outcomes.loc[best.idxmin(), "steps_to_converge"] == outcomes.loc[best.idxmin(), "steps"] < 60
        assert outcomes.loc[best.idxmax(), "converged"] == 0


@pytest.mark.usefixtures("_checkpoint_after_every_step")
def test_the_best_weights_survive_a_kill(data: Dataset, trained: Artifact, tmp_path: Path) -> None:
    kill(data, tmp_path, 48, overfitting())
    torch.manual_seed(7)
    assert_same(train(data, tmp_path, ablation=overfitting()), trained)
