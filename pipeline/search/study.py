"""Optuna's study and its database: an SQLite file in `reports/search/`, or a PostgreSQL server for many machines."""

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

STORAGE_VARIABLE = "SEARCH_STORAGE"
"""Environment variable with the address of the database."""
CONNECT_TIMEOUT_SECONDS = 8
RECONNECT_SECONDS = 60
"""Time for which a worker tries to reconnect to a database server that is restarting."""
MAX_MISSED_HEARTBEATS = 3
"""Number of heartbeats missed by a worker after which it counts as dead."""
MAX_RETRIES = 10
"""Largest number of times that a trial whose worker died is run again: the trial itself may kill its workers."""
ADVISORY_LOCK_ID = 0x5EA2C4
"""Number of the PostgreSQL lock that `exclusive_access` takes."""


def storage_url(search: Search, folder: Path) -> URL:
    """Return the address of the search's database: the environment variable `SEARCH_STORAGE`, else `search.storage`,
    else the SQLite file `study.db` in `folder`.

    Raises:
        UserError: the address is not that of an SQLite or PostgreSQL database.
    """
    variable = os.environ.get(STORAGE_VARIABLE)
    key, address = STORAGE_VARIABLE if variable else "search.storage", variable or search.storage
    try:
        url = make_url(address or f"sqlite:///{folder / 'study.db'}")
    except SQLAlchemyError:  # the address is not shown, because it may hold a password
        raise UserError(f"{key}: no address of a database (allowed: sqlite:///... or postgresql://...)") from None
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise UserError(f"{key}: {url.get_backend_name()!r} is not supported (allowed: sqlite, postgresql)")
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def open_study(params: Params, url: URL, *, seeded: bool = False) -> optuna.Study:
    """Open Optuna's study for `params` in the database at `url`, and create it if it does not exist.

    With `seeded` the sampler gets a fixed seed. Parallel workers must not use it: all would draw the same trials.

    Raises:
        UserError: the database cannot be reached, or was made by another version of Optuna.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # otherwise a traceback for each trial that Ctrl-C ends
    with _refuse_unusable_storage(url), exclusive_access(url):
        study = optuna.create_study(
            storage=_open_storage(url, params.search.heartbeat),
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
        study.sampler = _build_sampler(params, params.search.seed + len(study.trials) if seeded else None)
    return study


def load_study(params: Params, url: URL) -> optuna.Study:
    """Open Optuna's existing study for `params` in the database at `url`.

    Raises:
        UserError: the study does not exist, or the database cannot be reached.
    """
    missing = UserError(
        f"{_address_without_password(url)}: holds no study of this params.yaml; `python -m pipeline search`"
    )
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise missing  # connecting would create the file
    with _refuse_unusable_storage(url):
        storage = _open_storage(url, params.search.heartbeat)
        try:
            return optuna.load_study(study_name=space.study_name(params), storage=storage)
        except KeyError:
            raise missing from None


def is_enumerated(params: Params) -> bool:
    """Return True if the search space is so small that the search tries every configuration."""
    return space.count_configurations(params) <= params.search.enumerate_up_to


def count_required_trials(params: Params) -> int:
    """Return the number of complete trials at which the search ends."""
    trials = params.search.trials
    return min(trials, space.count_configurations(params)) if is_enumerated(params) else trials


def count_completed_trials(study: optuna.Study) -> int:
    """Return the number of trials in the study that have a result."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def _build_sampler(params: Params, seed: int | None) -> BaseSampler:
    """Return Optuna's brute-force sampler for a small space, else TPE.

    TPE samples all parameters jointly (`multivariate`, `group`), which models their interactions and is several times
    as fast, and avoids the configurations of running trials (`constant_liar`).
    """
    with ignore_experimental_warnings():
        if is_enumerated(params):
            return BruteForceSampler(seed=seed)
        return TPESampler(seed=seed, n_startup_trials=10, multivariate=True, group=True, constant_liar=True)


@contextmanager
def ignore_experimental_warnings() -> Iterator[None]:
    """Context manager that hides Optuna's warnings about experimental features."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


@contextmanager
def _refuse_unusable_storage(url: URL) -> Iterator[None]:
    """Context manager that raises a UserError if the database at `url` cannot be opened."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, OSError, RuntimeError) as error:  # RuntimeError: another version's
        reason = _first_line_of_message(find_storage_error(error) or error)
        raise UserError(f"search.storage: {_address_without_password(url)} cannot be used ({reason})") from None


@contextmanager
def report_storage_failure(url: URL) -> Iterator[None]:
    """Context manager that raises a RunError if the opened database at `url` fails (full disk, lost server)."""
    try:
        yield
    except Exception as error:
        if (cause := find_storage_error(error)) is None:
            raise
        message = f"search: {_address_without_password(url)} failed ({_first_line_of_message(cause)})"
        raise RunError(f"{message}; no trial is lost, the same command goes on") from None


def find_storage_error(error: BaseException | None) -> SQLAlchemyError | None:
    """Return the database error that caused `error`, directly or through other exceptions; None if there is none."""
    while error is not None:
        if isinstance(error, SQLAlchemyError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _address_without_password(url: URL) -> str:
    return url.render_as_string(hide_password=True)


@contextmanager
def exclusive_access(url: URL) -> Iterator[None]:
    """Context manager that only one process at a time can enter: it holds a lock file beside an SQLite database, or an
    advisory lock in PostgreSQL."""
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "study.db")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            yield
        return
    with _open_lock_engine(url).begin() as connection:
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(ADVISORY_LOCK_ID)))
        yield  # the lock ends with the transaction, even if this process dies


@cache
def _open_lock_engine(url: URL) -> sqlalchemy.Engine:
    """Open the database connection of `exclusive_access`, once per process, because connecting is slow."""
    engine = sqlalchemy.create_engine(url, pool_pre_ping=True, connect_args=_timeout_arguments(url))
    sqlalchemy.event.listen(engine, "connect", lambda *_: _retry_connections(engine), once=True)
    return engine


def _open_storage(url: URL, heartbeat_seconds: int) -> RDBStorage:
    with ignore_experimental_warnings():
        storage = RDBStorage(
            url.render_as_string(hide_password=False),
            engine_kwargs={"connect_args": _timeout_arguments(url), "pool_pre_ping": True},
            heartbeat_interval=heartbeat_seconds,
            grace_period=MAX_MISSED_HEARTBEATS * heartbeat_seconds,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES),
        )
    if url.get_backend_name() == "postgresql":
        _retry_connections(storage.engine)  # only now that it has connected once
    return storage


def _retry_connections(engine: sqlalchemy.Engine) -> None:
    """Make SQLAlchemy's `engine` try to reconnect for `RECONNECT_SECONDS`: the database server may be restarting."""

    @sqlalchemy.event.listens_for(engine, "do_connect")
    def reconnect(
        dialect: sqlalchemy.Dialect, record: object, arguments: list[object], options: dict[str, object]
    ) -> object:
        deadline = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)


def _timeout_arguments(url: URL) -> dict[str, int]:
    return {"timeout": 60} if url.get_backend_name() == "sqlite" else {"connect_timeout": CONNECT_TIMEOUT_SECONDS}


def _first_line_of_message(error: BaseException) -> str:
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0] or type(error).__name__
