"""An experiment of an MLflow store keeps what it is given, and is opened wherever it lies. Real stores."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest
from dvc.repo.experiments.queue.tempdir import _STANDALONE_TMP_DIR
from dvc.repo.experiments.utils import EXEC_TMP_DIR
from mlflow import MlflowClient

import pipeline
from pipeline.errors import UserError
from pipeline.params import Tracking, parse
from pipeline.tracking.ablations import mark_killed_runs
from pipeline.tracking.machine import PROCESS_TAG, machine_tags
from pipeline.tracking.store import open_store

CODE = Path(pipeline.__file__).parent
NAN = float("nan")


def test_a_run_keeps_its_tags_its_parent_and_the_last_finite_values(store: Tracking) -> None:
    experiment = open_store(store)
    parent = experiment.create_run("one", {"group": "a", "mlflow.note.content": "**words**"})
    child = experiment.create_run("two", {"group": "a", "colour": "red"}, parent)
    experiment.create_run("three", {"group": "b"})
    experiment.log(child, params={"switch": (1, 2)}, metrics={"share": 0.5, "count": 3, "no": NAN}, tags={"size": "1"})
    experiment.log(child, metrics={"share": 0.75}, tags={"colour": "blue"})
    runs = {run.info.run_id: run.data for run in open_store(store).find_runs("tags.group = 'a'")}
    assert set(runs) == {parent.info.run_id, child.info.run_id}
    assert runs[parent.info.run_id].tags["mlflow.note.content"] == "**words**"
    logged = runs[child.info.run_id]
    assert logged.metrics == {"share": 0.75, "count": 3.0}
    assert logged.params == {"switch": "(1, 2)"}
    tags = {"colour": "blue", "size": "1", "mlflow.parentRunId": parent.info.run_id}
    assert tags.items() <= logged.tags.items()
    assert open_store(store.model_copy(update={"experiment": "another"})).find_runs("tags.group = 'a'") == []


def test_a_curve_keeps_all_points_that_are_finite(store: Tracking) -> None:
    experiment = open_store(store)
    run = experiment.create_run("one", {})
    experiment.log_curve(run, pd.DataFrame([]))
    experiment.log_curve(run, pd.DataFrame({"step": [4, 8], "loss": [0.5, NAN], "other": [1, None]}))
    experiment.log_curve(run, pd.DataFrame({"step": [12], "loss": [0.25]}))
    assert experiment.read_curve(run, "loss") == {4: 0.5, 12: 0.25}
    assert experiment.read_curve(run, "other") == {4: 1.0}
    assert experiment.read_curve(run, "none") == {}
    longer_than_a_request = {step: 1 / step for step in range(1, 402)}
    steps, values = longer_than_a_request.keys(), longer_than_a_request.values()
    experiment.log_curve(run, pd.DataFrame({"step": steps, "second": 0.0, "third": values}))
    assert experiment.read_curve(run, "third") == longer_than_a_request


def test_only_runs_of_processes_that_are_gone_are_marked_as_killed(store: Tracking) -> None:
    experiment = open_store(store)
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    start = psutil.Process(gone.pid).create_time()
    gone.wait()
    alive = {key: value for key, value in machine_tags().items() if key in ("machine.host", PROCESS_TAG)}
    for name, tags in {
        "killed": alive | {PROCESS_TAG: f"{gone.pid} {start:.0f}"},
        "number used again": alive | {PROCESS_TAG: f"{os.getpid()} {start - 1000:.0f}"},
        "alive": alive,
        "elsewhere": {"machine.host": "another", PROCESS_TAG: f"{gone.pid} {start:.0f}"},
        "unknown": {},
    }.items():
        experiment.create_run(name, tags)
    experiment.end_run(experiment.create_run("finished", {"machine.host": "another"}), "FINISHED")
    mark_killed_runs(experiment)
    killed = {run.info.run_name for run in experiment.find_runs("attributes.status = 'KILLED'")}
    assert killed == {"killed", "number used again"}
    assert len(experiment.find_runs("attributes.status = 'RUNNING'")) == 3


def test_a_deleted_experiment_is_restored(store: Tracking) -> None:
    client, experiment = MlflowClient(store.uri), open_store(store).experiment_id
    client.delete_experiment(experiment)
    assert open_store(store).experiment_id == experiment
    assert client.get_experiment(experiment).lifecycle_stage == "active"


@pytest.mark.parametrize("copies", [_STANDALONE_TMP_DIR, EXEC_TMP_DIR])
def test_dvcs_temporary_copies_use_the_store_of_the_workspace(store: Tracking, tmp_path: Path, copies: str) -> None:
    copy = tmp_path / ".dvc" / "tmp" / copies / "tmpabc123"
    assert open_store(Tracking(uri=f"sqlite:///{copy}/mlflow.db")).uri == store.uri
    assert not copy.exists()


def test_an_address_has_a_scheme_of_mlflow_and_a_refusal_hides_its_password() -> None:
    for uri in ("postgresql+psycopg://me@host/runs", "https://host", "sqlite:///mlflow.db"):
        assert parse(Tracking, {"uri": uri}, "params.yaml: tracking").uri == uri
    with pytest.raises(UserError, match=r"^params\.yaml: tracking\.uri: .*'postgres'.*'postgresql'.*https") as refusal:
        parse(Tracking, {"uri": "postgres://me:secret@host/db"}, "params.yaml: tracking")
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"]
)
def test_a_database_in_memory_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match="in memory"):
        parse(Tracking, {"uri": uri}, "tracking")


def test_nothing_but_tracking_imports_mlflow() -> None:
    importing = [path for path in CODE.rglob("*.py") if re.search(r"^ *(import|from) mlflow\b", path.read_text(), re.M)]
    assert {path.relative_to(CODE).parts[0] for path in importing} == {"tracking"}


def test_a_command_that_tracks_nothing_does_not_import_mlflow() -> None:
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom pipeline.cli import app\n"
        "assert CliRunner().invoke(app, ['check']).exit_code == 0\n"
        "print([name for name in ('mlflow', 'torch', 'filelock') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=CODE.parent, check=False)
    assert done.stdout.strip() == "[]", done.stderr
