"""A few steps of training show whether new code trains as the old code did."""

from pathlib import Path

import pytest

from pipeline import dataset
from pipeline.repro.check_code import trains_as_before
from pipeline.training.artifact import Artifact
from pipeline.training.fit import fit
from pipeline.transformer import positional
from tests.conftest import ablation


def test_other_code_gives_another_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the training is longer than what is trained anew, and its learning rate depends on its length."""
    trained = ablation(steps=120, evaluate_every=40, schedule="cosine", stop_when_converged=False)
    dataset.write(tmp_path / "data", trained.task)
    data = dataset.read(tmp_path / "data", trained.task)
    fit(trained, data).write(tmp_path / "model")
    artifact = Artifact.read(tmp_path / "model", lambda values, key: trained.task)
    assert trains_as_before(artifact, data)
    monkeypatch.setattr("pipeline.transformer.model.EMBEDDING_SCALE", 1.01 * positional.EMBEDDING_SCALE)
    assert not trains_as_before(artifact, data)
