"""Optuna's study and its database: an SQLite file in `reports/search/`, or a PostgreSQL server for many machines."""

import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from pipeline.addresses import encode_password, hide_password, use_installed_driver
from pipeline.errors import RunError, UserError
from pipeline.params import Params, Search
from pipeline.search import space
from pipeline.tracking.address import find_store_address

Result = TypeVar("Result")
OBJECTIVE = "residual connections kept, plus area above the learning curve"
"""What a study minimises. The area is a share of the budget; it decides where the numbers are equal."""
STORAGE_VARIABLE = "SEARCH_STORAGE"  # environment variable with the address of the database
CONNECT_TIMEOUT = {"connect_timeout": 8}  # seconds to wait for a PostgreSQL server
MAX_STORAGE_FAILURES = 3  # consecutive failures of the database that a worker tolerates
MAX_MISSED_HEARTBEATS = 3  # heartbeats missed by a worker after which it counts as dead

warnings.simplefilter("ignore", ExperimentalWarning)  # of Optuna, for the whole process: threads share filters anyway


def storage_url(search: Search, folder: Path) -> URL:
    """Return the address of the search's database: the environment variable `SEARCH_STORAGE`, else `search.storage`,
    else the SQLite file `study.db` in `folder`."""
    variable = os.environ.get(STORAGE_VARIABLE)
    with suppress(SQLAlchemyError, ValueError):  # the error is not shown, because it may hold a password
        address = use_installed_driver(encode_password(variable or search.storage or ""))
        url = make_url(address) if address else URL.create("sqlite", database=str(folder / "study.db"))
        if url.get_backend_name() in ("sqlite", "postgresql"):
            return url
    key = STORAGE_VARIABLE if variable else "search.storage"
    raise UserError(f"{key}: no address of a supported database (allowed: sqlite:///... or postgresql://...)")


def refuse_unsuitable_database(params: Params, url: URL) -> None:
    """Raise a UserError if the search's database is in memory, which workers cannot share, or is that of MLflow."""
    is_sqlite = url.get_backend_name() == "sqlite"
    if is_sqlite and (url.database in (None, "", ":memory:") or "mode=memory" in str(url)):
        raise UserError("search.storage: a database in memory, which is lost with its process; name a file")
    with suppress(SQLAlchemyError, ValueError):  # an address that is no database's, such as of a server of MLflow
        mlflow = make_url(find_store_address(params.tracking)[0])
        if _identify_database(url) == _identify_database(mlflow):
            shown = hide_password(str(url))
            raise UserError(f"search.storage: {shown} is also tracking.uri; Optuna and MLflow need one each")


def _identify_database(url: URL) -> tuple[str, str | None, int, str]:
    """Return host, port and name of a database, or the path of its file."""
    if (kind := url.get_backend_name()) == "sqlite":
        return kind, None, 0, str(Path(url.database or "").resolve())
    return kind, url.host, url.port or 5432, url.database or ""


def open_study(params: Params, url: URL) -> optuna.Study:
    """Open or create Optuna's study for `params`; a UserError is raised if the database at `url` cannot be used."""
    refuse_unsuitable_database(params, url)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # otherwise a traceback for each trial that Ctrl-C ends
    try:
        with exclusive_access(url):
            storage, name = _open_storage(url, params.search.heartbeat), space.study_name(params)
            study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
            if "begun" not in study.user_attrs:
                study.set_metric_names([OBJECTIVE])
                study.set_user_attr("begun", uuid.uuid4().hex)  # differs between storages with a study of this name
            return study
    except (SQLAlchemyError, StorageInternalError, OSError, RuntimeError) as error:  # RuntimeError: another version's
        raise UserError(f"search.storage: {_describe_failure(url, 'cannot be used', error)}") from None


@contextmanager
def report_storage_failure(url: URL) -> Iterator[None]:
    """Context manager that raises a RunError if the opened database at `url` fails (full disk, lost server)."""
    try:
        yield
    except Exception as error:
        if find_storage_error(error) is None:
            raise
        failure = _describe_failure(url, "failed", error)
        raise RunError(f"search: {failure}; no trial is lost, the same command goes on") from None


def retry_storage_failures(action: Callable[[], Result]) -> Result:
    """Return the result of `action`; it is called again, up to `MAX_STORAGE_FAILURES` times, if the database fails."""
    for _ in range(MAX_STORAGE_FAILURES):
        try:
            return action()
        except Exception as error:
            if find_storage_error(error) is None:
                raise
            time.sleep(1.0)
    return action()


def find_storage_error(error: BaseException | None) -> SQLAlchemyError | None:
    """Return the database error that caused `error`, directly or through other exceptions; None if there is none."""
    while error is not None and not isinstance(error, SQLAlchemyError):
        error = error.__cause__ or error.__context__
    return error


def _describe_failure(url: URL, failure: str, error: BaseException) -> str:
    """Format one line: the address without its password, what failed, and the first line of the reason."""
    cause = find_storage_error(error) or error
    reason = str(getattr(cause, "orig", None) or cause).strip().partition("\n")[0] or type(cause).__name__
    return hide_password(f"{url.render_as_string()} {failure} ({reason})")


@contextmanager
def exclusive_access(url: URL) -> Iterator[None]:
    """Context manager that only one process at a time can enter, by a lock file or an advisory lock in PostgreSQL."""
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "study.db")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            yield
        return
    with _open_lock_engine(url).begin() as connection:
        connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(0x5EA2C4)))  # any number of ours
        yield  # the lock ends with the transaction, even if this process dies


@cache
def _open_lock_engine(url: URL) -> sqlalchemy.Engine:
    """Open the database connection of `exclusive_access`, once per process, because connecting is slow."""
    engine = sqlalchemy.create_engine(url, pool_pre_ping=True, connect_args=CONNECT_TIMEOUT)
    engine.connect().close()
    _retry_connections(engine)
    return engine


def _open_storage(url: URL, heartbeat_seconds: int) -> RDBStorage:
    is_server = url.get_backend_name() == "postgresql"
    storage = RDBStorage(
        url.render_as_string(hide_password=False),
        engine_kwargs={"connect_args": CONNECT_TIMEOUT if is_server else {"timeout": 60}, "pool_pre_ping": True},
        heartbeat_interval=heartbeat_seconds,
        grace_period=MAX_MISSED_HEARTBEATS * heartbeat_seconds,
    )
    if is_server:
        _retry_connections(storage.engine)
    return storage


def _retry_connections(engine: sqlalchemy.Engine) -> None:
    """Make an engine that has connected once try for a minute to reconnect: the database server may be restarting."""

    @sqlalchemy.event.listens_for(engine, "do_connect")
    def reconnect(dialect: sqlalchemy.Dialect, record: object, arguments: list[Any], options: dict[str, Any]) -> object:
        deadline = time.monotonic() + 60
        while True:
            try:
                return dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)
