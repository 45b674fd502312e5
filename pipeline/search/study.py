"""The Optuna study and its storage: an SQLite file in `reports/search/`, or a PostgreSQL that many machines share."""

import os
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
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
"""How long a database server may be away during a study."""
MISSED_HEARTBEATS = 3
"""Heartbeats that a worker misses until it counts as dead."""
MOST_RETRIES = 10
"""How often a trial is run again when its worker dies; limited, because the trial itself may kill its workers."""
_ADVISORY_LOCK = 0x5EA2C4


def storage_url(search: Search, folder: Path) -> URL:
    """Address of the storage: `SEARCH_STORAGE` in the environment, else `search.storage`, else a file in `folder`.

    Raises:
        UserError: not an address of an SQLite or PostgreSQL database.
    """
    variable = os.environ.get(VARIABLE)
    key, address = VARIABLE if variable else "search.storage", variable or search.storage
    try:
        url = make_url(address or f"sqlite:///{folder / 'study.db'}")
    except SQLAlchemyError:  # the address is not shown, because it may hold a password
        raise UserError(f"{key}: no address of a database (allowed: sqlite:///... or postgresql://...)") from None
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise UserError(f"{key}: {url.get_backend_name()!r} is not supported (allowed: sqlite, postgresql)")
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def open_study(params: Params, url: URL, *, seeded: bool = False) -> optuna.Study:
    """Open the study of `params`, and create it if there is none yet.

    With `seeded` the sampler draws the same in every process; workers that run side by side must not use it.

    Raises:
        UserError: the storage cannot be reached, or was made by another version of Optuna.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # otherwise a traceback for each trial that Ctrl-C ends
    with _refuse_unusable_storage(url), exclusive_access(url):
        study = optuna.create_study(
            storage=_storage(url, params.search.heartbeat),
            study_name=space.study_name(params),
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )
        if "begun" not in study.user_attrs:
            with ignore_experimental_warnings():
                study.set_metric_names(["converged", "residuals_kept"])
            if not is_enumerated(params):
                for choices in space.extreme_choices(params)[: params.search.trials]:
                    study.enqueue_trial(choices)
            study.set_user_attr("begun", uuid.uuid4().hex)  # differs between storages that have a study of this name
        # a resumed study must not repeat its draws, so the seed moves on with the trials
        study.sampler = _sampler(params, params.search.seed + len(study.trials) if seeded else None)
    return study


def load_study(params: Params, url: URL) -> optuna.Study:
    """Open the existing study of `params` for reading.

    Raises:
        UserError: there is none, or the storage cannot be reached.
    """
    missing = UserError(f"{_without_password(url)}: holds no study of this params.yaml; `python -m pipeline search`")
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise missing  # connecting would create the file
    with _refuse_unusable_storage(url):
        storage = _storage(url, params.search.heartbeat)
        try:
            return optuna.load_study(study_name=space.study_name(params), storage=storage)
        except KeyError:
            raise missing from None


def is_enumerated(params: Params) -> bool:
    """Whether the space is small enough to try all of it."""
    return space.size(params) <= params.search.enumerate_up_to


def trials_required(params: Params) -> int:
    """Number of complete trials at which the study ends."""
    trials = params.search.trials
    return min(trials, space.size(params)) if is_enumerated(params) else trials


def completed_trials(study: optuna.Study) -> int:
    """Number of trials that have a result."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def _sampler(params: Params, seed: int | None) -> BaseSampler:
    """Brute force for a small space, else TPE: all parameters jointly (`multivariate`, `group`), which models their
    interactions and is several times as fast, and away from running trials (`constant_liar`)."""
    with ignore_experimental_warnings():
        if is_enumerated(params):
            return BruteForceSampler(seed=seed)
        return TPESampler(seed=seed, n_startup_trials=10, multivariate=True, group=True, constant_liar=True)


@contextmanager
def ignore_experimental_warnings() -> Iterator[None]:
    """Silence Optuna's warnings about experimental features."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


@contextmanager
def _refuse_unusable_storage(url: URL) -> Iterator[None]:
    """Turn the failure to open a storage into a UserError."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, OSError, RuntimeError) as error:  # RuntimeError: another version's
        reason = _first_line(storage_error(error) or error)
        raise UserError(f"search.storage: {_without_password(url)} cannot be used ({reason})") from None


@contextmanager
def report_storage_failure(url: URL) -> Iterator[None]:
    """Turn a failure of a storage that worked before (a full disk, a lost server) into a RunError."""
    try:
        yield
    except Exception as error:
        if (cause := storage_error(error)) is None:
            raise
        message = f"search: {_without_password(url)} failed ({_first_line(cause)})"
        raise RunError(f"{message}; no trial is lost, the same command goes on") from None


def storage_error(error: BaseException | None) -> SQLAlchemyError | None:
    """The database error that caused `error`, or None. (Optuna wraps it, and may fail again when it ends the trial.)"""
    while error is not None:
        if isinstance(error, SQLAlchemyError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _without_password(url: URL) -> str:
    return url.render_as_string(hide_password=True)


@contextmanager
def exclusive_access(url: URL) -> Iterator[None]:
    """Let one process at a time into the block: by a lock file beside SQLite, by an advisory lock in PostgreSQL."""
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "study.db")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            yield
        return
    with _lock_engine(url).begin() as connection:
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        yield  # the lock ends with the transaction, even if this process dies


@cache
def _lock_engine(url: URL) -> sqlalchemy.Engine:
    """Connections for `exclusive_access`, kept open because connecting each time would take longer than waiting."""
    engine = sqlalchemy.create_engine(url, pool_pre_ping=True, connect_args=_connect_arguments(url))
    sqlalchemy.event.listen(engine, "connect", lambda *_: _wait_for_restarts(engine), once=True)
    return engine


def _storage(url: URL, heartbeat: int) -> RDBStorage:
    with ignore_experimental_warnings():
        storage = RDBStorage(
            url.render_as_string(hide_password=False),
            engine_kwargs={"connect_args": _connect_arguments(url), "pool_pre_ping": True},
            heartbeat_interval=heartbeat,
            grace_period=MISSED_HEARTBEATS * heartbeat,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=MOST_RETRIES),
        )
    if url.get_backend_name() == "postgresql":
        _wait_for_restarts(storage.engine)  # only now that it has connected once
    return storage


def _wait_for_restarts(engine: sqlalchemy.Engine) -> None:
    """Make `engine` try for `RESTART_SECONDS` to reconnect, because its server may be restarting."""

    @sqlalchemy.event.listens_for(engine, "do_connect")
    def connect(
        dialect: sqlalchemy.Dialect, record: object, arguments: list[object], options: dict[str, object]
    ) -> object:
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
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0] or type(error).__name__
