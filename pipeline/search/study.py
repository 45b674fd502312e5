"""The study and the storage that owns it: SQLite below `reports/search/`, or a PostgreSQL that many machines share."""

import os
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from statistics import mean

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, BruteForceSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import RunError, UserError
from pipeline.params import Params, Search
from pipeline.search import space

VARIABLE = "SEARCH_STORAGE"
CONNECT_SECONDS = 8
RESTART_SECONDS = 60
"""That a server may be away in the middle of a study."""
LOST_AFTER = 3
"""Heartbeats missed until a worker is taken for dead."""
RETRIES = 10
"""How often a trial whose worker died is run again: a trial that kills its worker must not go on for ever."""
_ADVISORY_LOCK = 0x5EA2C4


def storage_url(search: Search, folder: Path) -> URL:
    """Where the study is kept: the environment variable, `search.storage`, or a file in `folder`.

    Raises:
        UserError: it is no address of a database that serves.
    """
    told = os.environ.get(VARIABLE)
    key, given = VARIABLE if told else "search.storage", told or search.storage or f"sqlite:///{folder / 'study.db'}"
    try:
        url = make_url(given)
    except SQLAlchemyError:  # not shown: it may hold a password
        raise UserError(f"{key}: no address of a database (allowed: sqlite:///... or postgresql://...)") from None
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise UserError(f"{key}: {url.get_backend_name()!r} does not serve (allowed: sqlite, postgresql)")
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def open_study(params: Params, url: URL, *, seeded: bool = False) -> optuna.Study:
    """The study of `params`, made if it is not there yet, by one process at a time. `seeded`: its sampler draws the
    same every time (workers side by side must not).

    Raises:
        UserError: the storage cannot be reached, or was made by another version of Optuna.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would print a traceback for each trial that Ctrl-C ends
    with _refusing(url), exclusive_access(url):
        study = optuna.create_study(
            storage=_storage(url, params.search.heartbeat),
            study_name=space.study_name(params),
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )
        if "begun" not in study.user_attrs:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                study.set_metric_names(["converged", "residuals_kept"])
            if not is_enumerated(params):
                for corner in space.extreme_choices(params)[: params.search.trials]:
                    study.enqueue_trial(corner)
            study.set_user_attr("begun", uuid.uuid4().hex)  # tells it from one of the same name in another storage
        # a study that goes on must not draw what it has drawn
        study.sampler = sampler(params, params.search.seed + len(study.trials) if seeded else None)
    return study


def find_study(params: Params, url: URL) -> optuna.Study:
    """The study of `params`, to be read.

    Raises:
        UserError: there is none, or its storage cannot be reached.
    """
    missing = UserError(f"{_shown(url)}: holds no study of this params.yaml; `python -m pipeline search` makes it")
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise missing  # to look into it would be to make it
    with _refusing(url):
        try:
            return optuna.load_study(
                study_name=space.study_name(params), storage=_storage(url, params.search.heartbeat)
            )
        except KeyError:
            raise missing from None


def is_enumerated(params: Params) -> bool:
    """Whether the space is small enough to try all of it."""
    return space.size(params) <= params.search.enumerate_up_to


def trials_required(params: Params) -> int:
    """How many trials the study is to have."""
    trials = params.search.trials
    return min(trials, space.size(params)) if is_enumerated(params) else trials


def completed_trials(study: optuna.Study) -> int:
    """How many trials have an outcome."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def seconds_left(params: Params, study: optuna.Study, workers: int) -> float | None:
    """How long the trials that are missing will take, as long as those that were run took; None: none was run yet."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    took = [trial.duration.total_seconds() for trial in trials if trial.duration and "repeats" not in trial.user_attrs]
    return mean(took) * max(0, trials_required(params) - len(trials)) / workers if took else None


def sampler(params: Params, seed: int | None) -> BaseSampler:
    """Brute force for a small space, otherwise multi-objective TPE: all parameters drawn together, which knows of their
    interplay and is several times as fast, away from what other workers are trying."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if is_enumerated(params):
            return BruteForceSampler(seed=seed)
        return TPESampler(seed=seed, n_startup_trials=10, multivariate=True, group=True, constant_liar=True)


@contextmanager
def _refusing(url: URL) -> Iterator[None]:
    """Say in one line what a storage answers that does not serve."""
    try:
        yield
    except RuntimeError as error:  # Optuna's answer to a schema of another version
        raise UserError(
            f"search.storage: {_shown(url)} was made by another version of Optuna ({_first_line(error)})"
        ) from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        cause = of_storage(error) or error
        raise UserError(f"search.storage: no study can be kept at {_shown(url)} ({_first_line(cause)})") from None


@contextmanager
def report_storage_failure(url: URL) -> Iterator[None]:
    """Say in one line what a storage answers that served before.

    Raises:
        RunError: its disk is full, or its server is gone and did not come back.
    """
    try:
        yield
    except Exception as error:
        if (cause := of_storage(error)) is None:
            raise
        said = f"search: {_shown(url)} does not answer as it did ({_first_line(cause)})"
        raise RunError(f"{said}; no trial is lost, the same command goes on") from None


def of_storage(error: BaseException | None) -> SQLAlchemyError | None:
    """What the storage said that led to an error: Optuna wraps it, and trips over it when it ends a trial."""
    while error is not None:
        if isinstance(error, SQLAlchemyError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)


@contextmanager
def exclusive_access(url: URL) -> Iterator[None]:
    """One process at a time: by a lock file beside SQLite, by an advisory lock in PostgreSQL."""
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "study.db")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            yield
        return
    with _engine(url).begin() as connection:
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        yield  # the transaction's end lets go, also if this process dies


@cache
def _engine(url: URL) -> sqlalchemy.Engine:
    """The connection that `alone` waits on: a new one each time would cost more than the wait."""
    engine = sqlalchemy.create_engine(url, pool_pre_ping=True, connect_args=_connect_arguments(url))
    sqlalchemy.event.listen(engine, "connect", lambda *_: _be_patient(engine), once=True)
    return engine


def _storage(url: URL, heartbeat: int) -> RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = RDBStorage(
            url.render_as_string(hide_password=False),
            engine_kwargs={"connect_args": _connect_arguments(url), "pool_pre_ping": True},
            heartbeat_interval=heartbeat,
            grace_period=LOST_AFTER * heartbeat,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
        )
    if url.get_backend_name() == "postgresql":
        _be_patient(storage.engine)  # it has answered once
    return storage


def _be_patient(engine: sqlalchemy.Engine) -> None:
    sqlalchemy.event.listen(engine, "do_connect", _patiently)


def _patiently(
    dialect: sqlalchemy.Dialect, record: object, arguments: list[object], options: dict[str, object]
) -> object:
    """Connect to a server that may be starting again."""
    deadline = time.monotonic() + RESTART_SECONDS
    while True:
        try:
            return dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def _connect_arguments(url: URL) -> dict[str, int]:
    return {"timeout": 60} if url.get_backend_name() == "sqlite" else {"connect_timeout": CONNECT_SECONDS}


def _first_line(error: BaseException) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
