"""Training an ablation: what it writes is what it learned, whoever else trains beside it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline import dataset
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.params import read
from pipeline.tasks.catalogue import problems
from pipeline.training import data as training_data
from pipeline.training.artifact import Artifact, read_trained_on
from pipeline.training.convergence import history_columns
from pipeline.training.fit import fit
from pipeline.training.module import snapshot_steps
from pipeline.training.optimizers import OPTIMIZERS
from tests.conftest import PRESETS, ablation, easy, task

GOLDEN = [2.3565, 2.3667, 2.2726, 2.2723]
"""Validation losses after 8 and 24 steps, for seeds 1 and 2 each."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    dataset.write(folder, problems(task()))
    return dataset.read(folder, task())


def weights_equal(one: Artifact, other: Artifact, seed: int) -> bool:
    pairs = zip(one.weights[seed].values(), other.weights[seed].values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_larger_budget_makes_a_run_longer_not_another_one(data: Dataset) -> None:
    """Where the learning rate has its own decay."""
    short, long = (fit(ablation(steps=steps, decay_steps=6), data).history for steps in (8, 16))
    assert long[: len(short)].equals(short)
    assert len(long) == 2 * len(short)


def test_under_slurm_every_process_trains_on_its_own(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as one rank of many, as Lightning would have it: here with the variables of the fourth task of eight."""
    alone = fit(ablation(), data)
    slurm = {
        "JOB_ID": 1,
        "JOB_NAME": "search",
        "NTASKS": 8,
        "NTASKS_PER_NODE": 4,
        "PROCID": 3,
        "LOCALID": 3,
        "NODEID": 0,
    }
    for name, value in {**slurm, "NNODES": 2, "NODELIST": "node[1-2]"}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    assert weights_equal(fit(ablation(), data), alone, seed=1)


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_every_preset_starts(preset: str, tmp_path: Path) -> None:
    """Two steps of its first and last ablation on the CPU, on its own task (fewer rows), not compiled."""
    params = read(PRESETS / f"{preset}.yaml")
    for each in (params.all_ablations()[0], params.all_ablations()[-1]):
        few = each.task.model_copy(update={"train_size": 200, "validation_size": 20, "test_size": 20})
        dataset.write(tmp_path / each.name, problems(few))
        rows = dataset.read(tmp_path / each.name, few)
        short = {
            "steps": 2,
            "evaluate_every": 2,
            "batch_size": 4,
            "seeds": each.training.seeds[:2],
            "warmup_steps": 1,
        }
        settings = each.training.model_copy(
            update={**short, "accelerator": "cpu", "precision": "32-true", "compiled": False}
        )
        trained = fit(each.model_copy(update={"training": settings, "task": few}), rows)
        assert trained.history["step"].tolist() == [2, 2]
        assert (trained.history["validation_loss"] > 0).all()


@pytest.mark.parametrize("attention", ["causal", "full"])
@pytest.mark.parametrize("loss_on", ["answer", "all"])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_training_lowers_the_loss(data: Dataset, attention: str, loss_on: str, optimizer: str) -> None:
    chosen = ablation(
        model_={"attention": attention, "positional": "learned"},
        loss_on=loss_on,
        optimizer=optimizer,
        learning_rate=0.02 if optimizer == "muon" else 0.003,
        steps=40,
        evaluate_every=20,
    )
    history = fit(chosen, data).history
    assert list(history.columns) == history_columns()
    first, last = (history[history.step == step].validation_loss for step in (20, 40))
    assert (last.to_numpy() < first.to_numpy()).all()


def test_the_same_ablation_gives_the_same_bits(data: Dataset) -> None:
    one, other = fit(ablation(), data), fit(ablation(), data)
    assert weights_equal(one, other, 1)
    assert weights_equal(one, other, 2)
    assert one.history.equals(other.history)


def test_a_member_that_converged_is_kept_as_it_was_then(tmp_path: Path) -> None:
    """With a bar that one member clears at the second of three evaluations, it ends as a run of two does, and the
    others go on, alone in what is kept of later steps."""
    dataset.write(tmp_path, problems(easy().task))
    rows = dataset.read(tmp_path, easy().task)
    short = fit(easy(steps=40), rows)
    at_40 = short.history[short.history["step"] == 40].set_index("seed")
    scores = at_40["validation_exact_match"].round(4).to_dict()
    (first,) = (seed for seed, score in scores.items() if score == max(scores.values()))
    bar = fit(easy(converged_at=scores[first], converged_for=1, snapshots=10), rows)
    last = bar.history.groupby("seed")["step"].last().to_dict()
    assert last == {seed: 40 if seed == first else 60 for seed in scores}
    assert {seed for seed in scores if weights_equal(bar, short, seed)} == {first}
    assert any(step > 40 for step in snapshot_steps(60, 10))
    expected = {(seed, step) for step in snapshot_steps(60, 10) for seed in scores if step <= last[seed]}
    assert set(bar.snapshots) == expected


def test_how_validation_rows_are_grouped_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor how long their answers are."""
    unpadded = ablation(steps=4)
    unpadded = unpadded.model_copy(update={"task": task(zero_pad=False)})
    dataset.write(tmp_path, problems(unpadded.task))
    data = dataset.read(tmp_path, unpadded.task)
    assert len(data.examples["validation"].lengths.unique()) > 1
    losses = []
    for at_once in (7, 1024):
        monkeypatch.setattr(training_data, "VALIDATION_ROWS", at_once)
        losses.append(fit(unpadded, data).history["validation_loss"])
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_divergence_is_a_result_and_no_crash(data: Dataset) -> None:
    chosen = ablation(optimizer="adamw", learning_rate=1e30, gradient_clip=None, warmup_steps=0, steps=8)
    trained = fit(chosen, data)
    history = trained.history
    assert history.diverged.any()
    assert history[history.diverged == 1].validation_loss.isna().all()
    assert set(trained.weights) == {1, 2}


def test_a_batch_larger_than_the_dataset_is_refused(data: Dataset) -> None:
    with pytest.raises(UserError, match="batch_size: 1000 is more than the 200 training examples"):
        fit(ablation(batch_size=1000), data)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the accelerator")
def test_an_accelerator_that_is_not_there_is_refused(data: Dataset) -> None:
    with pytest.raises(UserError, match=r"training.accelerator: 'cuda' is not on this machine"):
        fit(ablation(accelerator="cuda"), data)


def test_what_is_written_is_what_is_read(data: Dataset, tmp_path: Path) -> None:
    chosen = ablation(model_={"positional": "learned"})
    trained = fit(chosen, data)
    trained.write(tmp_path / "ablation")
    read_back = read_trained_on(tmp_path / "ablation", chosen, data)
    assert read_back.ablation == chosen
    assert read_back.parameters == trained.parameters
    for seed in (1, 2):
        for name, value in read_back.model(seed, data.inputs).named_parameters():
            assert torch.equal(value, trained.weights[seed][name])
    assert len(read_back.history) == len(trained.history)


def test_snapshots_are_the_weights_along_the_way_and_change_nothing(data: Dataset, tmp_path: Path) -> None:
    watched, alone = (fit(ablation(steps=8, snapshots=count), data) for count in (2, 0))
    assert alone.snapshots == {}
    assert all(weights_equal(watched, alone, seed) for seed in (1, 2))
    steps = snapshot_steps(8, 2)
    assert set(watched.snapshots) == {(seed, step) for seed in (1, 2) for step in steps}
    chosen = ablation(steps=8, snapshots=2)
    watched.write(tmp_path / "ablation")
    artifact = read_trained_on(tmp_path / "ablation", chosen, data)
    assert set(artifact.snapshots) == set(watched.snapshots)
    for (seed, step), weights in watched.snapshots.items():
        for name, weight in artifact.model(seed, data.inputs, step=step).named_parameters():
            assert torch.equal(weight, weights[name].float())


@given(st.integers(1, 10_000), st.integers(0, 20))
def test_snapshots_lie_between_the_first_and_the_last_step(steps: int, count: int) -> None:
    chosen = sorted(snapshot_steps(steps, count))
    assert len(chosen) <= count
    assert all(1 <= step < steps for step in chosen)
    assert len(chosen) == count or steps < 1000 or count > 10  # there are only so many whole steps


def test_altered_weights_are_refused(data: Dataset, tmp_path: Path) -> None:
    chosen = ablation()
    fit(chosen, data).write(tmp_path / "ablation")
    path = tmp_path / "ablation" / "seed-1.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"seed-1.safetensors: altered or truncated"):
        read_trained_on(tmp_path / "ablation", chosen, data).model(1, data.inputs)


def test_weights_of_another_dataset_are_refused(data: Dataset, tmp_path: Path) -> None:
    chosen = ablation()
    fit(chosen, data).write(tmp_path / "ablation")
    dataset.write(tmp_path / "data", problems(task(seed=2)))
    with pytest.raises(UserError, match="another dataset"):
        read_trained_on(tmp_path / "ablation", chosen, dataset.read(tmp_path / "data", task(seed=2)))


def test_refactorings_leave_the_losses_alone(data: Dataset) -> None:
    """Golden values: a change that is not about numbers moves none of them. (A machine may round differently; when a
    change is about numbers, replace them.)"""
    chosen = ablation(
        model_={"positional": "rotary", "dropout": 0.1, "residual_free": {"mlp": [1]}}, steps=24, evaluate_every=8
    )
    history = fit(chosen, data).history
    found = history.pivot(index="step", columns="seed", values="validation_loss")
    assert found.loc[[8, 24]].to_numpy().flatten().tolist() == pytest.approx(GOLDEN, rel=5e-3)
