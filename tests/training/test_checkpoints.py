"""A training that was stopped goes on, and ends where it would have: bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pytorch_lightning import Callback, LightningModule, Trainer

from pipeline import dataset
from pipeline.dataset import Dataset
from pipeline.params import Ablation
from pipeline.tasks.catalogue import problems
from pipeline.training import checkpoints
from pipeline.training.artifact import Artifact
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.fit import fit
from pipeline.training.module import snapshot_steps
from tests.conftest import easy

CELL = easy(optimizer="muon", snapshots=3)
"""Some of its members stop earlier than others."""


class Killed(Exception):
    pass


class Kill(Callback):
    """In the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        if trainer.global_step == self.step:
            raise Killed


class Begin(Callback):
    """Remembers where training began."""

    step = -1

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.step = trainer.global_step


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    dataset.write(folder, problems(CELL.task))
    return dataset.read(folder, CELL.task)


@pytest.fixture(scope="module")
def undisturbed(data: Dataset) -> Artifact:
    return fit(CELL, data)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every step that can have one."""
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))


def going_on(data: Dataset, folder: Path, *callbacks: Callback, of: Ablation = CELL) -> Artifact:
    """Train, from the last checkpoint on if there is one."""
    with Checkpoints(folder, of, data.digests) as kept:
        return fit(of, data, kept=kept, callbacks=callbacks)


def stopped(data: Dataset, folder: Path, step: int) -> None:
    with pytest.raises(Killed):
        going_on(data, folder, Kill(step))


def same(one: Artifact, other: Artifact) -> None:
    assert one.history.equals(other.history)
    for mine, others in ((one.weights, other.weights), (one.snapshots, other.snapshots)):
        assert mine.keys() == others.keys()
        for key, weights in mine.items():
            assert all(torch.equal(weights[name], others[key][name]) for name in weights)


@settings(max_examples=5, phases=[Phase.generate])  # to shrink takes minutes, and tells nothing
@given(kills=st.lists(st.integers(2, 59), min_size=1, max_size=3))
def test_it_ends_as_if_nothing_had_happened(
    data: Dataset, undisturbed: Artifact, tmp_path_factory: pytest.TempPathFactory, kills: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("kept")
    for step in sorted(set(kills)):
        stopped(data, folder, step)
    begin = Begin()
    same(going_on(data, folder, begin), undisturbed)
    assert begin.step >= max(kills) - 1 - len(followed())
    assert not list(folder.glob("*/*"))


def followed() -> set[int]:
    """The steps after which there is no checkpoint."""
    training = CELL.training
    evaluated = range(training.evaluate_every, training.steps + 1, training.evaluate_every)
    return {*evaluated, *snapshot_steps(training.steps, training.snapshots)}


def test_it_goes_on_from_just_before_and_just_after_an_evaluation_and_a_snapshot(
    data: Dataset, undisturbed: Artifact, tmp_path: Path
) -> None:
    for step in sorted(followed())[:-1]:
        for kill in (step, step + 1, step + 2):
            stopped(data, tmp_path, kill)
    same(going_on(data, tmp_path), undisturbed)


def test_what_could_not_be_written_is_not_lost(data: Dataset, undisturbed: Artifact, tmp_path: Path) -> None:
    """Trained to the end, and then there is no room."""
    with pytest.raises(OSError, match="no room"), Checkpoints(tmp_path, CELL, data.digests) as kept:  # noqa: PT012
        fit(CELL, data, kept=kept)
        raise OSError("no room")
    begin = Begin()
    same(going_on(data, tmp_path, begin), undisturbed)
    assert begin.step >= CELL.training.steps - 2
    assert not list(tmp_path.glob("*/*"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(("altered", "begins"), [(0, 29), (1, 28), (2, 0)])
def test_what_is_altered_is_not_gone_on_from(
    data: Dataset, undisturbed: Artifact, tmp_path: Path, altered: int, begins: int
) -> None:
    stopped(data, tmp_path, 30)
    kept = sorted(tmp_path.glob("*/*.ckpt"))
    assert len(kept) == checkpoints.KEPT
    for path in kept[len(kept) - altered :]:
        flip(path)
    begin = Begin()
    same(going_on(data, tmp_path, begin), undisturbed)
    assert begin.step == begins


def test_half_a_checkpoint_is_none(data: Dataset, tmp_path: Path) -> None:
    """One whose digest, written last, is not there."""
    stopped(data, tmp_path, 30)
    with Checkpoints(tmp_path, CELL, data.digests) as kept:
        assert kept.last == kept.path(29)
        kept.path(29).with_suffix(".sha256").unlink()
        assert kept.last == kept.path(28)


def test_another_ablation_dataset_or_code_has_other_checkpoints(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [checkpoints.training_digest(CELL, data.digests)]
    known += [
        checkpoints.training_digest(easy(optimizer="muon", snapshots=3, **other), data.digests) for other in OTHERS
    ]
    known.append(checkpoints.training_digest(CELL, {**data.digests, "train.csv": "another"}))
    monkeypatch.setattr(checkpoints, "RUN", checkpoints.RUN[1:])
    known.append(checkpoints.training_digest(CELL, data.digests))
    assert len(set(known)) == 5


OTHERS: tuple[dict[str, Any], ...] = ({"steps": 80}, {"learning_rate": 0.01})


def test_who_comes_second_trains_without(data: Dataset, undisturbed: Artifact, tmp_path: Path) -> None:
    with Checkpoints(tmp_path, CELL, data.digests) as first:
        assert first.mine
        same(going_on(data, tmp_path), undisturbed)
        assert first.last is None


def test_without_room_there_is_a_training_and_no_checkpoint(
    data: Dataset, undisturbed: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    same(going_on(data, tmp_path / "file"), undisturbed)
    assert capsys.readouterr().err.count("warning: no checkpoint") == 1
