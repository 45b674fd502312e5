"""What MLflow's pages show, and whatever happens to its server meanwhile.

Real stores and a real server; no stand-ins.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pandas as pd
import pytest
from mlflow import MlflowClient

from pipeline import files, tracking
from pipeline.api import SHIPPED, load
from pipeline.params import Tracking
from pipeline.tracking import Unreachable
from pipeline.tracking.ablations import record, sync
from pipeline.training.convergence import history_columns
from tests.tracking.written import CELL, NAME, curves, evaluations, live, runs, write_ablation, write_evaluation


def artifacts(settings: Tracking, run: str) -> set[str]:
    return {artifact.path for artifact in MlflowClient(settings.uri).list_artifacts(run)}


def test_the_pages_find_what_they_look_for(mlflow_store: Tracking, tmp_path: Path) -> None:
    with live(mlflow_store) as watching:
        watching.record(write_ablation(tmp_path))
    evaluation = write_evaluation(tmp_path)
    sync(mlflow_store, CELL, tmp_path / "models" / NAME, evaluation)
    client = MlflowClient(mlflow_store.uri)
    parent, child = (client.get_run(runs(mlflow_store)[seed].id) for seed in (None, 1))
    assert (parent.info.run_name, child.info.run_name) == (NAME, f"seed-1 {NAME}")  # a table cuts the end off
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert {"mlflow.user", "mlflow.source.name", "mlflow.source.git.commit"} <= set(child.data.tags)
    assert "1 of 2 seeds converged" in parent.data.tags["mlflow.note.content"]
    params = {"model.layers": "2", "training.optimizer": "muon", "task.digits": "2", "seed": "1"}
    assert params.items() <= child.data.params.items()
    assert child.inputs
    (used,) = child.inputs.dataset_inputs
    assert (used.dataset.name, used.tags[0].value) == ("addition", "training")
    assert artifacts(mlflow_store, child.info.run_id) == {"config.json", "seed-1.safetensors"}
    assert artifacts(mlflow_store, parent.info.run_id) == {"config.json", "history.csv", "evaluation.csv"}
    shown = tmp_path / "mlartifacts" / parent.info.run_id / "artifacts" / "evaluation.csv"
    assert shown.read_bytes() == evaluation.read_bytes()


def test_a_ablation_is_a_model_that_mlflow_loads_from_wherever_the_folder_was_moved_to(
    mlflow_store: Tracking, tmp_path: Path
) -> None:
    folder, ablation = Path(shutil.copytree(SHIPPED / NAME, tmp_path / "models" / NAME)), load(SHIPPED / NAME).ablation
    config = json.loads((folder / "config.json").read_text())
    (seed,) = config["training"]["seeds"] = ablation.training.seeds[:1]  # of all, one comes with the project
    files.write_json(folder / "config.json", config)
    history = [evaluations(4)[0] | {"seed": seed}]
    files.write_csv(folder / "history.csv", pd.DataFrame(history, columns=history_columns()))
    files.write_manifest(folder, of=NAME)
    assert sync(mlflow_store, ablation, folder, None) == "added"
    assert sync(mlflow_store, ablation, folder, None) == "already there"
    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    there = mlflow_store.model_copy(update={"uri": f"sqlite:///{moved}/mlflow.db"})
    assert sync(there, ablation, moved / "models" / NAME, None) == "already there"
    client = MlflowClient(there.uri)
    (version,) = client.search_model_versions(f"name = '{NAME}'")
    (experiment,) = client.search_experiments(filter_string=f"name = '{there.experiment}'")
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert (model.source_run_id, model.status) == (version.run_id, "READY")
    assert {metric.key for metric in model.metrics or []} >= {"converged", "converged_low"}
    asked = f"""
import mlflow, pandas, sys
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/{NAME}/1")
assert model.predict(["123+456="]) == ["9750"]
assert model.predict(pandas.DataFrame({{"prompt": ["123+456=", "321+456="]}})) == ["9750", "7770"]
"""
    done = subprocess.run(
        [sys.executable, "-c", asked, there.uri], cwd=moved, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_deleted_experiment_is_restored(mlflow_store: Tracking, tmp_path: Path) -> None:
    folder = write_ablation(tmp_path)
    sync(mlflow_store, CELL, folder, None)
    client = MlflowClient(mlflow_store.uri)
    experiment = client.get_experiment_by_name(mlflow_store.experiment)
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    sync(mlflow_store, CELL, folder, None)
    assert client.get_experiment(experiment.experiment_id).lifecycle_stage == "active"


def test_the_run_that_an_mlflow_project_is_in_is_left_alone(
    mlflow_store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow run` gives its own run to the processes that it starts; they would join it."""
    client = MlflowClient(mlflow_store.uri)
    outer = client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", outer.info.run_id)
    with live(mlflow_store) as watching:
        watching.record(write_ablation(tmp_path))
    assert len(runs(mlflow_store)) == 3
    assert not client.get_run(outer.info.run_id).data.params


EIGHT = """
import os, sys
import mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store, pipeline.tracking.mlflow
from pipeline.tracking import connect
from pipeline.params import Tracking
for _ in range(8):
    if os.fork() == 0:
        store = connect(Tracking(uri=sys.argv[1], experiment="breaking-symmetry"))
        os.write(1, f"{store.experiment}\\n".encode())
        os._exit(0)
sys.exit(sum(os.wait()[1] != 0 for _ in range(8)))
"""


def test_eight_processes_make_a_fresh_store_together(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", EIGHT, f"sqlite:///{tmp_path / 'mlflow.db'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 8
    assert len(set(done.stdout.splitlines())) == 1


@pytest.fixture
def port() -> int:
    """One that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until(happens: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.1)


def answers(uri: str) -> bool:
    try:
        with urlopen(f"{uri}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


@pytest.fixture
def server(tmp_path: Path, fresh: bytes, port: int) -> Iterator[tuple[Tracking, subprocess.Popen[bytes]]]:
    """A real server, in a process group of its own."""
    (tmp_path / "server.db").write_bytes(fresh)
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}"]
    command += ["--artifacts-destination", str(tmp_path / "served"), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--workers", "1"],
        cwd=tmp_path,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: answers(uri), 90)
        yield Tracking(uri=uri, experiment="breaking-symmetry"), process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_server_shows_the_same_and_its_death_costs_seconds(
    server: tuple[Tracking, subprocess.Popen[bytes]],
    mlflow_store: Tracking,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    remote, process = server
    folder, evaluation = write_ablation(tmp_path), write_evaluation(tmp_path)
    for place in (remote, mlflow_store):
        assert sync(place, CELL, folder, evaluation) == "added"
        assert sync(place, CELL, folder, evaluation) == "already there"
    assert curves(remote) == curves(mlflow_store)
    assert artifacts(remote, runs(remote)[1].id) == {"config.json", "seed-1.safetensors"}
    assert capfd.readouterr() == ("", "")
    with live(remote) as watching:
        watching.log_evaluation(evaluations(4))
        kill(process)
        start = time.monotonic()
        for _ in range(5):
            watching.log_evaluation(evaluations(8))
        watching.record(folder)
        assert time.monotonic() - start < 15
    out, error = capfd.readouterr()
    assert out == ""
    assert len(error.splitlines()) == 1
    assert "warning: not tracked" in error
    assert "python -m pipeline track" in error


def test_who_logs_in_to_a_server_is_not_said(
    server: tuple[Tracking, "subprocess.Popen[bytes]"], capsys: pytest.CaptureFixture[str]
) -> None:
    settings, _ = server
    login = settings.uri.replace("://", "://someone:secret@")
    tracking.serve(settings.model_copy(update={"uri": login}), 0)
    said = capsys.readouterr().out
    assert settings.uri.removeprefix("http://") in said
    assert "secret" not in said


def test_a_server_that_is_down_costs_seconds_and_a_line(
    port: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dead = Tracking(uri=f"http://someone:secret@127.0.0.1:{port}", experiment="breaking-symmetry")
    folder, evaluation = write_ablation(tmp_path), write_evaluation(tmp_path)
    start = time.monotonic()
    with live(dead) as watching:
        watching.log_evaluation(evaluations(4))
        watching.record(folder)
    record(dead, CELL, folder, evaluation)
    assert time.monotonic() - start < 15
    out, error = capfd.readouterr()
    assert out == ""
    assert len(error.splitlines()) == 2
    assert "secret" not in error
    with pytest.raises(Unreachable, match=f"127.0.0.1:{port}") as raised:
        sync(dead, CELL, folder, evaluation)
    assert "secret" not in str(raised.value)


def test_a_server_that_never_answers_costs_seconds(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", port))
        silent.listen()
        start = time.monotonic()
        with live(Tracking(uri=f"http://127.0.0.1:{port}", experiment="breaking-symmetry")) as watching:
            watching.log_evaluation(evaluations(4))
        assert time.monotonic() - start < 15
    assert len(capfd.readouterr().err.splitlines()) == 1
