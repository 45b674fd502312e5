"""Databases of MLflow stores: their addresses, a connection that locks them, and the paths in them."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import sqlalchemy

ARTIFACTS_FOLDER = "mlartifacts"
"""Folder beside a SQLite store with the files of runs; MLflow takes its default, `mlruns`, for a former file store."""
PATH_COLUMNS = {
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["storage_location", "source"],
}
"""Table of MLflow's database -> columns with absolute paths of files below `ARTIFACTS_FOLDER`."""
CONNECT_TIMEOUT = {"connect_timeout": "8"}
"""Part of the address of a PostgreSQL database: seconds to wait for the server."""


@contextmanager
def connect_exclusively(uri: str) -> Iterator[str]:
    """Context manager with the complete address of a database, which in PostgreSQL one process at a time can enter.

    It connects once before MLflow does, which would try a dead database for minutes.
    """
    url = sqlalchemy.make_url(uri)
    is_postgresql = url.get_backend_name() == "postgresql"
    if is_postgresql:
        url = url.set(query=CONNECT_TIMEOUT | dict(url.query))
    with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect() as connection:
        if is_postgresql:  # until the transaction ends, with this block or this process
            connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(0x7AC4)))  # any number of ours
        yield url.render_as_string(hide_password=False)


def sqlite_address(database: Path) -> str:
    """Return the address of a SQLite file. If its path has a `%`, which SQLAlchemy decodes and MLflow does not, the
    address is relative to the current folder and encoded."""
    path = str(database)
    return f"sqlite:///{quote(os.path.relpath(path)) if '%' in path else path}"


def update_artifact_paths(database: Path, artifacts_uri: str) -> None:
    """Replace the absolute paths in MLflow's database by URIs below `artifacts_uri`, if the project was moved."""
    moved = f"artifact_location LIKE 'file:%/{ARTIFACTS_FOLDER}' AND artifact_location != ?"
    query = f"SELECT DISTINCT artifact_location FROM experiments WHERE {moved}"
    with closing(sqlite3.connect(database)) as connection, connection:
        for (old_uri,) in connection.execute(query, (artifacts_uri,)).fetchall():
            for table, columns in PATH_COLUMNS.items():
                for column in columns:
                    update = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
                    connection.execute(update, (old_uri, artifacts_uri))
