"""A training that was killed resumes, and ends as if it had not been killed: bit for bit."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pytorch_lightning import Callback, LightningModule, Trainer

from pipeline.dataset import Dataset
from pipeline.params import Ablation
from pipeline.training import checkpoints
from pipeline.training.artifact import Artifact
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.fit import fit
from pipeline.training.module import choose_snapshot_steps
from tests.conftest import easy

pytestmark = pytest.mark.usefixtures("_checkpoint_after_every_step")
ABLATION = easy(optimizer="muon", snapshots=3)
"""Some of its runs stop earlier than others."""
TRAINING = ABLATION.training
WITHOUT_CHECKPOINT = {
    *range(TRAINING.evaluate_every, TRAINING.steps + 1, TRAINING.evaluate_every),
    *choose_snapshot_steps(TRAINING.steps, TRAINING.snapshots),
}
"""Steps that an evaluation or a snapshot follows."""


class Killed(Exception):
    pass


class Observer(Callback):
    """Records the step at which training begins, and kills the training in the middle of step `killed_at`."""

    def __init__(self, killed_at: int = -1) -> None:
        self.first_step, self.killed_at = -1, killed_at

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.first_step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        if trainer.global_step == self.killed_at:
            raise Killed


@pytest.fixture(scope="module")
def data(make_dataset) -> Dataset:
    return make_dataset(ABLATION.task)


@pytest.fixture(scope="module")
def undisturbed(data: Dataset) -> Artifact:
    return fit(ABLATION, data)


@pytest.fixture(scope="module")
def killed(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a training that was killed at step 30."""
    folder = tmp_path_factory.mktemp("killed")
    kill(data, folder, 30)
    return folder


def train(data: Dataset, folder: Path, *callbacks: Callback, ablation: Ablation = ABLATION) -> Artifact:
    """Train, from the newest checkpoint if there is one."""
    with Checkpoints(folder, ablation, data.digests) as kept:
        return fit(ablation, data, checkpoints=kept, callbacks=callbacks)


def kill(data: Dataset, folder: Path, step: int, ablation: Ablation = ABLATION) -> None:
    with pytest.raises(Killed):
        train(data, folder, Observer(killed_at=step), ablation=ablation)


def assert_same(one: Artifact, other: Artifact) -> None:
    assert one.history.equals(other.history)
    for weights, expected in ((one.weights, other.weights), (one.snapshots, other.snapshots)):
        assert weights.keys() == expected.keys()
        for key in weights:
            assert all(torch.equal(weights[key][name], expected[key][name]) for name in expected[key])


@settings(max_examples=3, phases=[Phase.generate])  # shrinking takes minutes
@given(kills=st.lists(st.integers(2, 59), min_size=1, max_size=3, unique=True))
def test_it_ends_as_if_it_had_not_been_killed(
    data: Dataset, undisturbed: Artifact, tmp_path_factory: pytest.TempPathFactory, kills: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in sorted(kills):
        kill(data, folder, step)
    observer = Observer()
    assert_same(train(data, folder, observer), undisturbed)
    assert observer.first_step >= max(kills) - 1 - len(WITHOUT_CHECKPOINT)
    assert not list(folder.glob("*/*"))


def test_it_resumes_just_before_and_just_after_evaluations_and_snapshots(
    data: Dataset, undisturbed: Artifact, tmp_path: Path
) -> None:
    for step in sorted(WITHOUT_CHECKPOINT)[:-1]:
        for after in (0, 1, 2):
            kill(data, tmp_path, step + after)
    assert_same(train(data, tmp_path), undisturbed)


def test_a_result_that_could_not_be_written_is_not_lost(data: Dataset, undisturbed: Artifact, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no room"), Checkpoints(tmp_path, ABLATION, data.digests) as kept:  # noqa: PT012
        fit(ABLATION, data, checkpoints=kept)
        raise OSError("no room")
    observer = Observer()
    assert_same(train(data, tmp_path, observer), undisturbed)
    assert observer.first_step >= TRAINING.steps - 2
    assert not list(tmp_path.glob("*/*"))


@pytest.mark.parametrize(("altered", "resumes_at"), [(0, 29), (1, 28), (2, 0)])
def test_altered_checkpoints_are_ignored(
    data: Dataset, undisturbed: Artifact, killed: Path, tmp_path: Path, altered: int, resumes_at: int
) -> None:
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    kept = sorted(tmp_path.glob("*/*.ckpt"))
    assert len(kept) == checkpoints.KEPT_CHECKPOINT_COUNT
    for path in kept[len(kept) - altered :]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    observer = Observer()
    assert_same(train(data, tmp_path, observer), undisturbed)
    assert observer.first_step == resumes_at


def test_a_checkpoint_without_its_digest_is_ignored(data: Dataset, killed: Path, tmp_path: Path) -> None:
    """The digest is written last."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    with Checkpoints(tmp_path, ABLATION, data.digests) as kept:
        before, newest = sorted(kept.folder.glob("*.ckpt"))
        assert kept.newest_checkpoint == newest
        newest.with_suffix(".sha256").unlink()
        assert kept.newest_checkpoint == before


def test_another_ablation_dataset_or_code_has_other_checkpoints(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, code = checkpoints.compute_training_digest, checkpoints.TRAINING_CODE
    others = [easy(optimizer="muon", snapshots=3, **other) for other in ({"steps": 80}, {"learning_rate": 0.01})]
    digests = [compute(ablation, data.digests) for ablation in (ABLATION, *others)]
    digests.append(compute(ABLATION, {**data.digests, "train.csv": "another"}))
    for part in range(len(code)):
        monkeypatch.setattr(checkpoints, "TRAINING_CODE", code[:part] + code[part + 1 :])
        digests.append(compute(ABLATION, data.digests))
    assert len(set(digests)) == len(digests)


def test_a_second_process_trains_without_checkpoints(data: Dataset, undisturbed: Artifact, tmp_path: Path) -> None:
    with Checkpoints(tmp_path, ABLATION, data.digests) as first:
        assert_same(train(data, tmp_path), undisturbed)
        assert first.newest_checkpoint is None


def test_training_without_a_writable_folder_has_no_checkpoints(
    data: Dataset, undisturbed: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert_same(train(data, tmp_path / "file"), undisturbed)
    assert capsys.readouterr().err.count("warning: no checkpoint") == 1
