"""Training an ablation: runs are reproducible, independent of each other, and stored as they were trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.tasks.registry import read_params
from pipeline.training import data as training_data
from pipeline.training.artifact import Artifact, read_artifact_trained_on
from pipeline.training.convergence import history_columns
from pipeline.training.fit import fit
from pipeline.training.module import choose_snapshot_steps
from pipeline.training.population import build_initial_model
from tests.conftest import PRESETS, ablation, easy, task
from tests.training.test_checkpoints import assert_same

GOLDEN = [2.2939, 2.3002, 2.1617, 2.1668]
"""Validation losses after 8 and 24 steps, for seeds 1 and 2 each."""
ABLATION = ablation(model_={"positional": "learned"}, snapshots=2)


@pytest.fixture(scope="module")
def data(make_dataset) -> Dataset:
    return make_dataset(task())


@pytest.fixture(scope="module")
def trained(data: Dataset) -> Artifact:
    return fit(ABLATION, data)


@pytest.fixture
def folder(trained: Artifact, tmp_path: Path) -> Path:
    """Folder of an artifact."""
    trained.write(tmp_path / "ablation")
    return tmp_path / "ablation"


def weights_equal(one: Artifact, other: Artifact, seed: int) -> bool:
    return all(map(torch.equal, one.weights[seed].values(), other.weights[seed].values()))


def test_a_larger_budget_only_continues_a_run(data: Dataset) -> None:
    """If the learning rate does not depend on the budget."""
    short, long = (fit(ablation(steps=steps), data).history for steps in (8, 16))
    assert long[: len(short)].equals(short)
    assert len(long) == 2 * len(short)


def test_the_same_ablation_gives_the_same_bits_also_under_slurm(
    data: Dataset, trained: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning must not take the process for one of several that train together, as the variables of SLURM suggest."""
    process = {"JOB_ID": 1, "JOB_NAME": "search", "PROCID": 3, "LOCALID": 3, "NODEID": 0}
    others = {"NTASKS": 8, "NTASKS_PER_NODE": 4, "NNODES": 2, "NODELIST": "node[1-2]"}
    for name, value in (process | others).items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    assert_same(fit(ABLATION, data), trained)


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_every_preset_starts(preset: str, make_dataset) -> None:
    """Two steps of its first and last ablation on the CPU, on fewer examples of its own task, not compiled."""
    params = read_params(PRESETS / f"{preset}.yaml")
    for chosen in (params.all_ablations()[0], params.all_ablations()[-1]):
        few = chosen.task.model_copy(update={"train_size": 50, "validation_size": 10, "test_size": 10})
        short = {"steps": 2, "evaluate_every": 2, "warmup_steps": 1, "batch_size": 4}
        on_cpu = {"accelerator": "cpu", "precision": "32-true", "compiled": False, "seeds": chosen.training.seeds[:2]}
        training = chosen.training.model_copy(update=short | on_cpu)
        history = fit(chosen.model_copy(update={"training": training, "task": few}), make_dataset(few)).history
        assert history["step"].tolist() == [2, 2]
        assert (history["validation_loss"] > 0).all()


@pytest.mark.parametrize(
    ("attention", "loss_on", "optimizer"),
    [("causal", "answer", "muon"), ("causal", "all", "adamw"), ("full", "answer", "adamw"), ("full", "all", "muon")],
)
def test_training_lowers_the_loss(data: Dataset, attention: str, loss_on: str, optimizer: str) -> None:
    switches, rate = {"attention": attention, "positional": "learned"}, 0.02 if optimizer == "muon" else 0.003
    settings = {"loss_on": loss_on, "optimizer": optimizer, "learning_rate": rate, "steps": 40, "evaluate_every": 20}
    history = fit(ablation(model_=switches, **settings), data).history
    assert list(history.columns) == history_columns()
    first, last = (history[history.step == step].validation_loss for step in (20, 40))
    assert (last.to_numpy() < first.to_numpy()).all()


def test_a_run_that_converged_keeps_the_weights_of_that_evaluation(make_dataset) -> None:
    """With a threshold that one run reaches at the second of three evaluations, it ends like a run of two; the others
    continue, and later snapshots are of them alone."""
    data = make_dataset(easy().task)
    short = fit(easy(steps=40), data)
    at_40 = short.history[short.history["step"] == 40].set_index("seed")
    scores = at_40["validation_exact_match"].round(4).to_dict()
    (first,) = (seed for seed, score in scores.items() if score == max(scores.values()))
    stopped = fit(easy(converged_at=scores[first], converged_for=1, snapshots=10), data)
    last = stopped.history.groupby("seed")["step"].last().to_dict()
    assert last == {seed: 40 if seed == first else 60 for seed in scores}
    assert {seed for seed in scores if weights_equal(stopped, short, seed)} == {first}
    assert any(step > 40 for step in choose_snapshot_steps(60, 10))
    expected = {(seed, step) for step in choose_snapshot_steps(60, 10) for seed in scores if step <= last[seed]}
    assert set(stopped.snapshots) == expected


def test_weights_and_snapshots_are_the_running_average_of_the_trained_weights(data: Dataset) -> None:
    """The average disturbs nothing: training without it visits the same weights."""
    visited: list[dict[str, Tensor]] = []

    class Visit(Callback):
        def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
            visited.append(module.population.copy_member_weights(0))

    seeds = {"seeds": [1], "steps": 12, "snapshots": 3}
    raw = fit(ablation(average=0, **seeds), data, callbacks=[Visit()])
    averaged = fit(ablation(average=0.6, **seeds), data)
    assert raw.history["train_loss"].equals(averaged.history["train_loss"])
    assert not raw.history["validation_loss"].equals(averaged.history["validation_loss"])
    means = build_initial_model(ablation().model, seed=1, **data.transformer_arguments).state_dict()
    for step, weights in enumerate(visited):
        kept = min(0.6, (step + 1) / (step + 10))
        means = {name: kept * means[name] + (1 - kept) * weight for name, weight in weights.items()}
        if (1, step + 1) in averaged.snapshots:
            for name, weight in averaged.snapshots[1, step + 1].items():
                torch.testing.assert_close(weight.float(), means[name], rtol=2**-7, atol=1e-6)
    for name, weight in averaged.weights[1].items():
        torch.testing.assert_close(weight, means[name])


def test_the_size_of_validation_batches_does_not_matter(make_dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if answers differ in length."""
    unpadded = ablation(steps=4).model_copy(update={"task": task(zero_pad=False)})
    data = make_dataset(unpadded.task)
    assert len({*data.examples["validation"].lengths.tolist()}) > 1
    losses = []
    for batch in (7, 1024):
        monkeypatch.setattr(training_data, "VALIDATION_BATCH_SIZE", batch)
        losses.append(fit(unpadded, data).history["validation_loss"])
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_divergence_is_a_result_and_no_crash(data: Dataset) -> None:
    chosen = ablation(optimizer="adamw", learning_rate=1e30, gradient_clip=None, warmup_steps=0, steps=8)
    artifact = fit(chosen, data)
    history = artifact.history
    assert history.diverged.any()
    assert history[history.diverged == 1].validation_loss.isna().all()
    assert set(artifact.weights) == {1, 2}


def test_a_batch_larger_than_the_dataset_is_refused(data: Dataset) -> None:
    with pytest.raises(UserError, match=r"training\.batch_size: 1000\b.*200"):
        fit(ablation(batch_size=1000), data)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the accelerator")
def test_an_accelerator_that_does_not_exist_is_refused(data: Dataset) -> None:
    with pytest.raises(UserError, match=r"training\.accelerator: 'cuda'"):
        fit(ablation(accelerator="cuda"), data)


def test_an_artifact_is_read_as_it_was_written(data: Dataset, trained: Artifact, folder: Path) -> None:
    read_back = read_artifact_trained_on(folder, ABLATION, data)
    assert read_back.ablation == ABLATION
    assert read_back.parameter_count == trained.parameter_count
    assert len(read_back.history) == len(trained.history)
    assert set(read_back.snapshots) == set(trained.snapshots)
    expected = {(seed, None): weights for seed, weights in trained.weights.items()} | dict(trained.snapshots)
    for (seed, step), weights in expected.items():
        for name, value in read_back.load_model(seed, data.transformer_arguments, step=step).named_parameters():
            assert torch.equal(value, weights[name].float())


def test_snapshots_change_nothing(data: Dataset, trained: Artifact) -> None:
    without = fit(ablation(model_={"positional": "learned"}), data)
    assert without.snapshots == {}
    assert all(weights_equal(trained, without, seed) for seed in (1, 2))
    assert set(trained.snapshots) == {(seed, step) for seed in (1, 2) for step in choose_snapshot_steps(8, 2)}


@given(st.integers(1, 10_000), st.integers(0, 20))
def test_snapshots_lie_between_the_first_and_the_last_step(steps: int, count: int) -> None:
    chosen = sorted(choose_snapshot_steps(steps, count))
    assert len(chosen) <= count
    assert all(1 <= step < steps for step in chosen)
    assert len(chosen) == count or steps < 1000 or count > 10  # there are only so many whole steps


def test_weights_of_another_dataset_are_refused(folder: Path, make_dataset) -> None:
    with pytest.raises(UserError, match=f"{folder}.*dataset"):
        read_artifact_trained_on(folder, ABLATION, make_dataset(task(seed=2)))


def test_refactorings_do_not_change_the_losses(data: Dataset) -> None:
    """Golden values. A machine may round differently; a change that is about numbers replaces them."""
    switches = {"positional": "rotary", "dropout": 0.1, "residual_free": {"mlp": [1]}}
    losses = fit(
        ablation(model_=switches, steps=24, evaluate_every=8, average=0, schedule="cosine"), data
    ).history.pivot(index="step", columns="seed", values="validation_loss")
    assert losses.loc[[8, 24]].to_numpy().flatten().tolist() == pytest.approx(GOLDEN, rel=5e-3)
