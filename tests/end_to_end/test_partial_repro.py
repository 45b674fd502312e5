"""What `repro` need not do: train again what new code trains alike, or ablations that nobody asked for."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from tests.projects import REPRO, differing_files, executed_stages, finished_jobs, output_files, run

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def project(reproduced: Path, tmp_path: Path) -> Path:
    """A copy of a project whose report is up to date."""
    return Path(shutil.copytree(reproduced, tmp_path / "project", symlinks=True))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def trainings(project: Path) -> set[str]:
    """The runs in MLflow: a training replaces those of its ablation."""
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'breaking-symmetry'")
    return {run.info.run_id for run in client.search_runs([experiment.experiment_id], "tags.ablation != ''")}


def add_encoding(project: Path) -> None:
    """Add a name to the positional encodings, and a key to the settings: this changes code that every training runs."""
    edit(project / "pipeline/params/model.py", '"learned", ', '"learned", "new", ')
    edit(project / "pipeline/params/model.py", "    dropout:", "    new_key: bool = False\n    dropout:")
    edit(
        project / "pipeline/transformer/positional.py", "POSITIONAL_ENCODINGS:", "NEW_NAME = 1\n\nPOSITIONAL_ENCODINGS:"
    )


def test_a_new_name_trains_nothing_again_and_leaves_what_training_again_leaves(
    project: Path, reproduced: Path, tmp_path: Path
) -> None:
    runs, retrained = trainings(project), Path(shutil.copytree(reproduced, tmp_path / "retrained", symlinks=True))
    for folder in (project, retrained):
        add_encoding(folder)
    status = json.loads(run(project, "dvc", "status", "--json"))
    assert {"train@one", "train@two"} <= set(status)
    assert "kept" in run(project, *REPRO, "--check-code")
    assert trainings(project) == runs
    run(retrained, *REPRO)
    assert differing_files(output_files(project), output_files(retrained)) == set()
    assert executed_stages(run(project, "dvc", "repro", "report")) == []


def test_only_what_is_named_is_trained_and_the_other_rows_stay(project: Path) -> None:
    """As in a fresh clone, which has the reports but neither data nor models."""
    for folder in ("data", "models", ".dvc/cache", "reports/evaluation", "reports/analysis", "reports/settings"):
        shutil.rmtree(project / folder)
    edit(project / "params.yaml", "  two:\n", "  three:\n    task: addition\n    model: {layers: 2}\n  two:\n")
    before = pd.read_csv(project / "reports/runs.csv", dtype=str)
    assert finished_jobs(run(project, *REPRO, "three")) == {"generate-addition", "three"}
    after = pd.read_csv(project / "reports/runs.csv", dtype=str)
    assert after["ablation"].tolist() == ["one", "three", "two"]
    assert after["kept"].tolist() == ["1", "0", "1"]
    others = after[after["ablation"] != "three"].drop(columns="kept").reset_index(drop=True)
    pd.testing.assert_frame_equal(others, before)
    assert "`one`, `two`" in (project / "reports/summary.md").read_text()

    edit(project / "params.yaml", "  one:\n", "  one:\n    training: {learning_rate: 0.01}\n")
    assert "one" not in finished_jobs(run(project, *REPRO, "three"))
    assert set(pd.read_csv(project / "reports/runs.csv")["ablation"]) == {"two", "three"}
    assert "`one`" in (project / "reports/summary.md").read_text()

    assert {"one", "two"} <= finished_jobs(run(project, *REPRO))
    assert "kept" not in pd.read_csv(project / "reports/runs.csv")
