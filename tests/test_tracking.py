"""The view agrees with the files, however often it is made and whatever happens to the server meanwhile.

Real stores and a real server; no stand-ins.
"""

import json
import os
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
from mlflow.entities import Run

from pipeline import files, tracking, trained_cell
from pipeline.params import Cell, Tracking
from pipeline.refusal import Refused
from pipeline.training.history import COLUMNS, History
from tests.conftest import model, task, training

NAME = "none-causal"
SEEDS = (1, 2)
STEPS = (4, 8)
DATA = {"train.csv": "a" * 64, "validation.csv": "b" * 64, "test.csv": "c" * 64}
CELL = Cell(name=NAME, model=model(residual_free=[1]), training=training(seeds=list(SEEDS)))


def evaluations(step: int) -> History:
    """What training says at a step: seed 1 converges at step 8, seed 2 diverges there."""
    nan = float("nan")
    rows: History = []
    for seed in SEEDS:
        diverged = seed == 2 and step == 8
        exact = {4: 0.25, 8: 1.0}[step] if seed == 1 else 0.0
        loss = nan if diverged else 1 / step
        rows.append(dict(zip(COLUMNS, (seed, step, loss, loss, exact, loss, 0.01, int(diverged)), strict=True)))
    return rows


def write_cell(project: Path, *, weights: bytes = b"weights", history: History | None = None) -> Path:
    """A trained cell's files, as the stage `train` leaves them."""
    folder = project / "models" / NAME
    rows = history or [row for step in STEPS for row in evaluations(step)]
    contents = {f"seed-{seed}.safetensors": weights + str(seed).encode() for seed in SEEDS}
    for name, content in contents.items():
        files.write_bytes(folder / name, content)
    files.write_csv(folder / "history.csv", pd.DataFrame(rows, columns=list(COLUMNS)))
    config = {
        "ablation": NAME,
        "task": task().model_dump(mode="json"),
        "model": CELL.model.model_dump(mode="json"),
        "training": CELL.training.model_dump(mode="json"),
        "parameters": 10,
        "dataset": DATA,
        "weights": {name: files.digest(content) for name, content in contents.items()},
    }
    files.write_json(folder / "config.json", config)
    return folder


def write_evaluation(project: Path, *, exact: float = 0.9, steps: int = 8) -> Path:
    """The cell's evaluation, as the stage `evaluate` leaves it."""
    rows = [
        {
            "ablation": NAME,
            "seed": seed,
            "steps": steps,
            "converged": converged,
            "steps_to_converge": 8 if converged else None,
            "diverged": 1 - converged,
            "validation_exact_match": float(converged),
            "test_exact_match": exact * converged,
            "test_examples": 50,
            "digit_1": exact,
            "carries_0": exact,
            "carries_0_examples": 20,
        }
        for seed, converged in zip(SEEDS, (1, 0), strict=True)
    ]
    path = project / "reports" / "evaluation" / f"{NAME}.csv"
    files.write_csv(path, pd.DataFrame(rows))
    return path


def live(store: Tracking) -> tracking.LiveRuns:
    return tracking.LiveRuns(store, CELL, task(), DATA)


def stop_after(store: Tracking, rows: History, how: type[BaseException]) -> None:
    """Train until something ends it."""

    def train() -> None:
        with live(store) as watching:
            watching.log_evaluation(rows)
            raise how

    with pytest.raises(how):
        train()


def runs(store: Tracking) -> dict[str, Run]:
    """The runs that a person sees, by name; no two have the same."""
    client = MlflowClient(store.uri)
    experiment = client.get_experiment_by_name(store.experiment)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {str(run.info.run_name): run for run in found}


Curves = dict[tuple[str, str], list[tuple[int, float]]]


def curves(store: Tracking) -> Curves:
    """(run, metric) -> every point in it."""
    client = MlflowClient(store.uri)
    return {
        (name, key): sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, key))
        for name, run in runs(store).items()
        for key in run.data.metrics
        if key != "training_seconds"
    }


def artifacts(store: Tracking, run: Run) -> set[str]:
    return {artifact.path for artifact in MlflowClient(store.uri).list_artifacts(run.info.run_id)}


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MLflow database with nothing in it; to make one takes seconds."""
    path = tmp_path_factory.mktemp("fresh") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


@pytest.fixture
def store(tmp_path: Path, fresh: bytes) -> Tracking:
    (tmp_path / "mlflow.db").write_bytes(fresh)
    return Tracking(uri=f"sqlite:///{tmp_path / 'mlflow.db'}", experiment="breaking-symmetry")


def test_a_cell_is_a_parent_with_a_child_per_seed(store: Tracking, tmp_path: Path) -> None:
    assert tracking.sync(store, write_cell(tmp_path), write_evaluation(tmp_path)) == "added"
    found = runs(store)
    parent, first, second = (found.pop(name) for name in (NAME, f"{NAME}/seed-1", f"{NAME}/seed-2"))
    assert not found
    assert {run.info.status for run in (parent, first, second)} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in (first, second)} == {parent.info.run_id}
    assert (parent.data.tags["role"], first.data.tags["role"]) == ("cell", "member")
    assert (first.data.tags["converged"], second.data.tags["converged"]) == ("yes", "diverged")
    groups = {"ablation": NAME, "positional": "none", "attention": "causal", "layers": "2", "optimizer": "muon"}
    groups |= {"residual_free_attention": "1", "residual_free_mlp": "1", "order_blind": "false", "seed": "1"}
    assert groups.items() <= first.data.tags.items()
    assert {"model.layers": "2", "training.optimizer": "muon", "task.digits": "2"}.items() <= first.data.params.items()
    assert first.data.metrics["validation_exact_match"] == 1.0
    assert first.data.metrics["test_exact_match"] == 0.9
    assert first.data.metrics["steps_to_converge"] == 8
    assert "steps_to_converge" not in second.data.metrics
    assert parent.data.metrics["converged"] == 1
    assert parent.data.metrics["converged_low"] < 0.5 < parent.data.metrics["converged_high"]
    assert parent.data.metrics["test_exact_match_max"] == 0.9
    assert "1 of 2 seeds converged" in parent.data.tags["mlflow.note.content"]
    assert first.inputs
    assert [(used.dataset.name, used.tags[0].value) for used in first.inputs.dataset_inputs] == [
        ("addition", "training")
    ]
    assert artifacts(store, first) == {"seed-1.safetensors"}
    assert artifacts(store, parent) == {"config.json", "history.csv", f"{NAME}.csv"}
    assert (tmp_path / "mlartifacts" / parent.info.run_id).is_dir()


def test_what_is_not_a_number_is_left_out_of_the_curves(store: Tracking, tmp_path: Path) -> None:
    tracking.sync(store, write_cell(tmp_path), None)
    shown = curves(store)
    assert shown[f"{NAME}/seed-1", "train_loss"] == [(4, 0.25), (8, 0.125)]
    assert shown[f"{NAME}/seed-2", "train_loss"] == [(4, 0.25)]
    assert shown[f"{NAME}/seed-2", "validation_exact_match"] == [(4, 0.0), (8, 0.0)]
    assert shown[NAME, "members_converged"] == [(4, 0.0), (8, 1.0)]
    assert shown[NAME, "validation_exact_match"] == [(4, 0.125), (8, 0.5)]


def test_shown_live_then_from_the_files_then_again_is_shown_once(store: Tracking, tmp_path: Path) -> None:
    """And it is what the files alone would have shown."""
    with live(store) as watching:
        for step in STEPS:
            watching.log_evaluation(evaluations(step))
        while_training = curves(store)
        folder = write_cell(tmp_path)
        watching.record(folder)
    recorded = runs(store)
    assert {run.info.status for run in recorded.values()} == {"FINISHED"}
    assert recorded[NAME].data.metrics["training_seconds"] > 0
    assert recorded[NAME].data.tags["machine.torch"]
    assert while_training.items() <= curves(store).items()
    assert tracking.sync(store, folder, write_evaluation(tmp_path)) == "completed"
    shown = curves(store)
    assert tracking.sync(store, folder, write_evaluation(tmp_path)) == "already there"
    assert curves(store) == shown
    assert {run.info.run_id for run in runs(store).values()} == {run.info.run_id for run in recorded.values()}
    elsewhere = Tracking(uri=store.uri, experiment="elsewhere")
    tracking.sync(elsewhere, folder, write_evaluation(tmp_path))
    assert curves(elsewhere) == shown


def test_training_again_replaces_what_was_shown(store: Tracking, tmp_path: Path) -> None:
    tracking.sync(store, write_cell(tmp_path), write_evaluation(tmp_path))
    before = {run.info.run_id for run in runs(store).values()}
    with live(store) as watching:
        assert before.isdisjoint(run.info.run_id for run in runs(store).values())
        watching.record(write_cell(tmp_path))
    assert len(runs(store)) == 3


def test_altered_results_replace_those_shown(store: Tracking, tmp_path: Path) -> None:
    tracking.sync(store, write_cell(tmp_path), write_evaluation(tmp_path))
    before = {run.info.run_id for run in runs(store).values()}
    assert tracking.sync(store, write_cell(tmp_path, weights=b"others"), write_evaluation(tmp_path)) == "added"
    after = runs(store)
    assert before.isdisjoint(run.info.run_id for run in after.values())
    assert len(after) == 3
    path = write_evaluation(tmp_path, exact=0.8)  # as many bytes as before
    assert tracking.sync(store, tmp_path / "models" / NAME, path) == "completed"
    again = runs(store)
    assert {run.info.run_id for run in again.values()} == {run.info.run_id for run in after.values()}
    assert again[f"{NAME}/seed-1"].data.metrics["test_exact_match"] == 0.8
    shown = tmp_path / "mlartifacts" / again[NAME].info.run_id / "artifacts" / f"{NAME}.csv"
    assert shown.read_bytes() == path.read_bytes()


def test_an_evaluation_of_an_earlier_training_is_not_shown(store: Tracking, tmp_path: Path) -> None:
    tracking.sync(store, write_cell(tmp_path), write_evaluation(tmp_path, steps=4))
    assert "test_exact_match" not in runs(store)[f"{NAME}/seed-1"].data.metrics


@pytest.mark.parametrize(("how", "status"), [(KeyboardInterrupt, "KILLED"), (ZeroDivisionError, "FAILED")])
def test_files_complete_a_run_that_was_stopped(
    store: Tracking, tmp_path: Path, how: type[BaseException], status: str
) -> None:
    stop_after(store, evaluations(STEPS[0]), how)
    stopped = runs(store)
    assert {run.info.status for run in stopped.values()} == {status}
    assert tracking.sync(store, write_cell(tmp_path), None) == "completed"
    completed = runs(store)
    assert {run.info.run_id for run in completed.values()} == {run.info.run_id for run in stopped.values()}
    assert {run.info.status for run in completed.values()} == {"FINISHED"}
    assert curves(store)[f"{NAME}/seed-1", "validation_exact_match"] == [(4, 0.25), (8, 1.0)]


def test_a_stopped_run_that_shows_something_else_is_replaced(store: Tracking, tmp_path: Path) -> None:
    stop_after(store, [row | {"validation_exact_match": 0.5} for row in evaluations(STEPS[0])], ZeroDivisionError)
    assert tracking.sync(store, write_cell(tmp_path), None) == "added"
    assert curves(store)[f"{NAME}/seed-1", "validation_exact_match"] == [(4, 0.25), (8, 1.0)]


def test_more_members_than_a_page_and_steps_than_a_request(store: Tracking, tmp_path: Path) -> None:
    history = [row | {"step": 4 * step} for step in range(1, 402) for row in evaluations(4)]
    folder = write_cell(tmp_path, history=history)
    tracking.sync(store, folder, None)
    assert len(curves(store)[f"{NAME}/seed-1", "gradient_norm"]) == 401
    assert tracking.sync(store, folder, None) == "already there"


@pytest.mark.parametrize("missing", ["config.json", "history.csv", "seed-2.safetensors"])
def test_a_cell_with_a_file_missing_is_refused(store: Tracking, tmp_path: Path, missing: str) -> None:
    folder = write_cell(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(Refused, match=f"{missing}: no such file"):
        tracking.sync(store, folder, None)


def test_the_run_that_an_mlflow_project_is_in_is_left_alone(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow run` gives its own run to the processes that it starts; they would join it."""
    client = MlflowClient(store.uri)
    outer = client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", outer.info.run_id)
    with live(store) as watching:
        watching.record(write_cell(tmp_path))
    assert len(runs(store)) == 3
    assert not client.get_run(outer.info.run_id).data.params


EIGHT = """
import os, sys
from pipeline import tracking
from pipeline.params import Tracking
for _ in range(8):
    if os.fork() == 0:
        store = tracking.connect(Tracking(uri=sys.argv[1], experiment="breaking-symmetry"))
        os.write(1, f"{store.experiment}\\n".encode())
        os._exit(0)
sys.exit(sum(os.wait()[1] != 0 for _ in range(8)))
"""


def test_eight_processes_make_a_fresh_store_together(tmp_path: Path) -> None:
    command = [sys.executable, "-c", EIGHT, f"sqlite:///{tmp_path / 'mlflow.db'}"]
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
    store: Tracking,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    remote, process = server
    folder, evaluation = write_cell(tmp_path), write_evaluation(tmp_path)
    for place in (remote, store):
        assert tracking.sync(place, folder, evaluation) == "added"
        assert tracking.sync(place, folder, evaluation) == "already there"
    assert curves(remote) == curves(store)
    assert artifacts(remote, runs(remote)[f"{NAME}/seed-1"]) == {"seed-1.safetensors"}
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


def test_a_server_that_is_down_costs_seconds_and_a_line(
    port: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dead = Tracking(uri=f"http://someone:secret@127.0.0.1:{port}", experiment="breaking-symmetry")
    folder, evaluation = write_cell(tmp_path), write_evaluation(tmp_path)
    start = time.monotonic()
    with live(dead) as watching:
        watching.log_evaluation(evaluations(4))
        watching.record(folder)
    tracking.record(dead, folder, evaluation)
    assert time.monotonic() - start < 15
    out, error = capfd.readouterr()
    assert out == ""
    assert len(error.splitlines()) == 2
    assert "secret" not in error
    with pytest.raises(tracking.Unreachable, match=f"127.0.0.1:{port}") as raised:
        tracking.sync(dead, folder, evaluation)
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


def test_the_cells_curve_keeps_what_a_stopped_member_had_reached() -> None:
    history = pd.DataFrame(
        {"seed": [1, 2, 2, 2], "step": [4, 4, 8, 12], "validation_exact_match": [1.0, 0.0, 1.0, 0.5]}
    )
    curve = trained_cell.cell_curve(history, 0.99)
    assert curve["members_converged"].tolist() == [1, 2, 2]
    assert curve["validation_exact_match"].tolist() == [0.5, 1.0, 0.75]


def test_runs_are_found_by_all_that_determines_their_result(tmp_path: Path) -> None:
    config = json.loads((write_cell(tmp_path) / "config.json").read_text())
    whole = [config[key] for key in ("ablation", "task", "model", "training", "dataset")]
    assert tracking.identity(*whole) == tracking.identity(*json.loads(json.dumps(whole)))
    others = ["other", {**whole[1], "seed": 2}, {**whole[2], "layers": 3}, {**whole[3], "steps": 4}, {"train.csv": "d"}]
    changed = [[*whole[:place], other, *whole[place + 1 :]] for place, other in enumerate(others)]
    assert len({tracking.identity(*one) for one in [whole, *changed]}) == 6
