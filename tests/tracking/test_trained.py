"""What the files of a trained ablation say is read, or refused in one line."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline import files
from pipeline.errors import UserError
from pipeline.tracking.trained import read
from tests.conftest import model
from tests.tracking.written import ABLATION, DATA, write_ablation, write_evaluation


def test_a_ablation_is_read_as_it_was_trained(tmp_path: Path) -> None:
    asked = ABLATION.model_copy(update={"model": model(layers=5)})
    trained = read(write_ablation(tmp_path), asked, None)
    assert trained.ablation == ABLATION
    assert trained.digests == DATA


def test_a_members_numbers_are_those_of_the_evaluation_and_its_tasks_strata(tmp_path: Path) -> None:
    folder = write_ablation(tmp_path)
    evaluation = write_evaluation(folder)
    table = pd.read_csv(evaluation)
    table.assign(verdict="words", empty=float("nan")).to_csv(evaluation, index=False)
    files.write_manifest(evaluation.parent, of=files.open_verified(folder, made_by="").digest)
    metrics = read(folder, ABLATION, evaluation).metrics(1)
    own = {"converged", "diverged", "steps", "steps_to_converge", "test_exact_match"}
    assert set(metrics) == own | {"place_1", "stratum_0"}
    assert metrics["stratum_0"] == 0.9


@pytest.mark.parametrize("missing", ["manifest.json", "config.json", "history.csv", "seed-2.safetensors"])
def test_a_file_that_is_missing_is_refused(tmp_path: Path, missing: str) -> None:
    folder = write_ablation(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(UserError, match=f"{missing}: no such file"):
        read(folder, ABLATION, None)


@pytest.mark.parametrize("key", ["task", "model", "training", "dataset"])
@pytest.mark.parametrize("damage", [None, 5, [], "word", {"odd": 1}])
def test_a_configuration_of_another_version_is_refused_in_a_line(tmp_path: Path, key: str, damage: object) -> None:
    folder = write_ablation(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for other in (config | {key: damage}, {name: value for name, value in config.items() if name != key}):
        files.write_json(folder / "config.json", other)
        files.write_manifest(folder, of=ABLATION.name)
        with pytest.raises(UserError, match=r"config\.json: ") as refused:
            read(folder, ABLATION, None)
        assert len(str(refused.value).splitlines()) == 1


def test_another_ablations_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is of nope-causal, not of another; make it again"):
        read(write_ablation(tmp_path), ABLATION.model_copy(update={"name": "another"}), None)
