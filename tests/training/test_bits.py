"""Tasks that are scored by bits per token: who converges, and which weights are kept."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from pipeline import dataset, files
from pipeline.dataset import Dataset
from pipeline.measurement.bits import bits
from pipeline.params import Ablation
from pipeline.params import task as section
from pipeline.params.score import BITS
from pipeline.tasks.catalogue import problems
from pipeline.training import checkpoints
from pipeline.training.convergence import Convergence, history_columns, kept_steps, mean_curve, run_outcomes
from pipeline.training.fit import fit
from pipeline.transformer.model import Transformer
from tests.conftest import ablation
from tests.training.test_checkpoints import Kill, Killed, going_on, same

SIZES = {"train_size": 40, "validation_size": 20, "test_size": 20}
TASK = section({"name": "series", "window": 6, "bins": 4, **SIZES}, "task")


def few(**settings: object) -> Ablation:
    """An ablation of so few examples that it soon learns them by heart."""
    schedule = {"schedule": "constant", "steps": 60, "evaluate_every": 5, "learning_rate": 0.05}
    made = ablation("few", model_={"positional": "learned", "width": 32}, **(schedule | settings))
    return made.model_copy(update={"task": TASK})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    dataset.write(folder, problems(TASK))
    return dataset.read(folder, TASK)


def test_every_member_is_kept_as_it_was_at_its_best_evaluation(data: Dataset, tmp_path: Path) -> None:
    trained = fit(few(), data)
    history = trained.history
    ends = run_outcomes(history, Convergence.of(few())).set_index("seed")
    last = history.groupby("seed")["validation_bits"].last()
    for seed, weights in trained.weights.items():
        member = Transformer(few().model, **data.inputs)
        member.load_state_dict(weights)
        kept = bits(member.eval(), data.examples["validation"]).mean().item()
        assert kept == pytest.approx(ends.loc[seed, "validation_bits"], rel=1e-5)
        assert kept == pytest.approx(history.loc[history["seed"] == seed, "validation_bits"].min(), rel=1e-5)
        assert kept < last[seed] - 0.1  # which is worse: by then it had learned them by heart
        step = kept_steps(history, Convergence.of(few()))[seed]
        at = history[(history["seed"] == seed) & (history["step"] == step)]
        assert kept == pytest.approx(at["validation_bits"].item(), rel=1e-5)
        assert step < 60
    assert list(history.columns) == history_columns(BITS)


def test_nobody_converges_where_no_number_says_when(data: Dataset) -> None:
    history = fit(few(), data).history
    ends = run_outcomes(history, Convergence.of(few()))
    assert ends[["converged", "steps_to_converge"]].isna().all(axis=None)
    assert (ends["steps"] == 60).all()
    assert list(mean_curve(history, Convergence.of(few()))) == ["step", "validation_bits"]


def test_a_number_of_bits_says_who_has_converged_in_memory_as_in_a_file(data: Dataset, tmp_path: Path) -> None:
    """With a bar that lies at what a member reaches, to the last digit."""
    best = fit(few(), data).history.groupby("seed")["validation_bits"].min()
    chosen = few(converged_at_bits=float(best.min()), converged_for=1)
    history = fit(chosen, data).history
    files.write_csv(tmp_path / "history.csv", history)
    for one in (history, pd.read_csv(tmp_path / "history.csv")):
        ends = run_outcomes(one, Convergence.of(chosen)).set_index("seed")
        assert ends.loc[best.idxmin(), "converged"] == 1
        assert ends.loc[best.idxmin(), "steps_to_converge"] == ends.loc[best.idxmin(), "steps"] < 60
        assert ends.loc[best.idxmax(), "converged"] == 0


def test_what_was_best_before_a_kill_is_not_forgotten(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))
    with pytest.raises(Killed):
        going_on(data, tmp_path, Kill(48), of=few())
    torch.manual_seed(7)
    same(going_on(data, tmp_path, of=few()), fit(few(), data))
