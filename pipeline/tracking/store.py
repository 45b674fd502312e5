"""One experiment of an MLflow store: a SQLite file, a database or a server."""

import json
import logging
import math
import os
import re
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.parse import quote

# MLflow reads these when it is imported. By default its client tries a dead server for four minutes, waits for a busy
# one as long as that demands, and unpickles what it reads. The last is PostgreSQL's, which waits minutes for a host.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "PGCONNECT_TIMEOUT": "4",
}.items():
    os.environ.setdefault(_name, _value)

import pandas as pd
from filelock import FileLock
from mlflow import MlflowClient, entities
from mlflow.entities import Metric, Run
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as database_utils

from pipeline import files
from pipeline.addresses import encode_password, use_installed_driver
from pipeline.params import Tracking
from pipeline.tracking.failures import raise_unreachable

STORE_ERRORS = (MlflowException, OSError)
"""Exceptions that methods of `MlflowStore` raise. (Errors of the library requests are OSErrors.)"""
ARTIFACTS_FOLDER = "mlartifacts"
"""Folder beside a SQLite store with the files of runs; MLflow takes its default, `mlruns`, for a former file store."""
PATH_COLUMNS = {
    "experiments": ["artifact_location"],
    "runs": ["artifact_uri"],
    "logged_models": ["artifact_location"],
    "model_versions": ["storage_location", "source"],
}
"""Table of MLflow's database -> columns with absolute paths of files below `ARTIFACTS_FOLDER`."""
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # without it the pages ask whether this is about chat bots
    "mlflow.note.content": "One run per ablation (`tags.role = 'ablation'`), with a child run per seed "
    "(`tags.role = 'run'`). The trials of a search are `tags.role = 'trial'`.",
}


class MlflowStore:
    """Reads and writes the runs of one experiment in an MLflow store.

    Methods raise `STORE_ERRORS`. Metrics and curve points that are not finite are left out.
    """

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str) -> None:
        self.client, self.uri, self.experiment_id = client, uri, experiment_id

    def find_runs(self, condition: str) -> list[Run]:
        """Return all runs, except deleted ones, that fulfil a condition in MLflow's query language."""
        return list(self.client.search_runs([self.experiment_id], condition, max_results=50_000))  # MLflow's largest

    def create_run(self, name: str, tags: Mapping[str, str], parent: Run | None = None) -> Run:
        """Create a run; a run with a parent is shown below its parent."""
        parents = {"mlflow.parentRunId": parent.info.run_id} if parent else {}
        return self.client.create_run(self.experiment_id, tags={**tags, **parents}, run_name=name)

    def log(
        self, run: Run, *, params: Mapping[str, Any] = {}, metrics: Mapping[str, Any] = {}, tags: Mapping[str, str] = {}
    ) -> None:
        """Add parameters, metrics and tags to a run. Existing metrics and tags get the new value."""
        self.client.log_batch(
            run.info.run_id,
            metrics=_finite_metrics(metrics, step=0),
            params=[entities.Param(key, str(value)[:6000]) for key, value in params.items()],  # MLflow's largest length
            tags=[entities.RunTag(key, value) for key, value in tags.items()],
        )

    def log_curve(self, run: Run, table: pd.DataFrame) -> None:
        """Add points to the curves of a run: each column of the table is a curve, each row a step (column `step`).

        After a failure, no row is half added.
        """
        rows = table.to_dict("records")
        for start in range(0, len(rows), 100):  # a request with more than 1000 points would be split anywhere
            points = [_finite_metrics(row, step=int(row["step"])) for row in rows[start : start + 100]]
            self.client.log_batch(run.info.run_id, list(chain(*points)))

    def read_curve(self, run: Run, metric: str) -> dict[int, float]:
        """Return the curve of a run's metric, as step -> value."""
        return {point.step: point.value for point in self.client.get_metric_history(run.info.run_id, metric)}

    def log_model(self, run: Run, name: str, folder: Path, metrics: Mapping[str, Any]) -> None:
        """Register the trained ablation in `folder` as a version of MLflow's model `name`, and log the model's metrics.

        What the run has already, the model or its registration, is not made again.
        """
        run_id = run.info.run_id
        models = self.client.search_logged_models([self.experiment_id], filter_string=f"source_run_id = '{run_id}'")
        ready = [model for model in models if model.status == entities.LoggedModelStatus.READY]
        model = ready[0] if ready else self._upload_model(run_id, name, folder)
        if not self.has_registered_model(run):
            # a model of a study is registered as <study>-<ablation>
            title = self.client.get_experiment(self.experiment_id).name
            registered = f"{title}-{name}".removeprefix(f"{Tracking().experiment}-")
            with _allow_existing():
                self.client.create_registered_model(registered)
            self.client.create_model_version(registered, model.artifact_location, run_id, model_id=model.model_id)
        self.client.log_batch(run_id, _finite_metrics(metrics, step=0, model_id=model.model_id))

    def has_registered_model(self, run: Run) -> bool:
        """Return True if a version of a registered model comes from the run; people may have deleted it."""
        return bool(self.client.search_model_versions(f"run_id = '{run.info.run_id}'", max_results=1))

    def _upload_model(self, run_id: str, name: str, folder: Path) -> entities.LoggedModel:
        """Log the trained ablation in `folder` as a model of the run."""
        model = self.client.create_logged_model(self.experiment_id, name, run_id, model_type="transformer")
        model_id = str(model.model_id)
        with TemporaryDirectory() as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about MLflow's own type hints, and a missing input example
            from mlflow.models import Model
            from mlflow.pyfunc import save_model

            save_model(
                f"{temporary}/model",
                loader_module="pipeline.api",
                data_path=str(folder),
                mlflow_model=Model(model_id=model_id, run_id=run_id),
                pip_requirements=[],  # it is loaded where this project is installed
            )
            self.client.log_model_artifacts(model_id, f"{temporary}/model")
        self.client.log_outputs(run_id, [entities.LoggedModelOutput(model_id, step=0)])
        return self.client.finalize_logged_model(model_id, "READY")

    def log_dataset(self, run: Run, dataset_name: str, example_count: int, file_digests: Mapping[str, str]) -> None:
        """Log that the run was trained on `example_count` examples of the dataset in `data/<dataset_name>/`."""
        dataset = entities.Dataset(
            name=dataset_name,
            digest=files.compute_digest_of_values(dict(file_digests))[:12],  # MLflow's pages show a dozen characters
            source_type="local",
            source=json.dumps({"uri": f"data/{dataset_name}"}),
            profile=json.dumps({"num_rows": example_count, **file_digests}),
        )
        training = entities.InputTag("mlflow.data.context", "training")
        self.client.log_inputs(run.info.run_id, datasets=[entities.DatasetInput(dataset, [training])])

    def monitor_machine(self, run: Run) -> None:
        """Start a thread that logs the machine's load until the run ends, if MLflow's variable for it is set."""
        if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            SystemMetricsMonitor(run.info.run_id, tracking_uri=self.uri).start()

    def end_run(self, run: Run, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Set the final status of a run."""
        self.client.set_terminated(run.info.run_id, status)


def _finite_metrics(values: Mapping[Any, Any], *, step: int, model_id: str | None = None) -> list[Metric]:
    """Return MLflow's metric objects for all finite values except `step`."""
    now = int(time.time() * 1000)
    numbers = {key: float(value) for key, value in values.items() if key != "step" and value is not None}
    return [Metric(key, value, now, step, model_id) for key, value in numbers.items() if math.isfinite(value)]


@contextmanager
def _allow_existing() -> Iterator[None]:
    """Ignore MLflow's error that what the block creates exists already: another process may have been quicker."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def open_store(settings: Tracking) -> MlflowStore:
    """Open the MLflow store and experiment that `settings` name, and create or restore them if necessary.

    A SQLite store is opened under a lock, because processes that create or migrate a store at the same time break it.

    Raises:
        RunError: MLflow does not answer, or its database cannot be used.
    """
    for noisy in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    database_utils.MAX_RETRY_COUNT = 2  # attempts to connect to a database; MLflow's ten take 100 seconds
    uri, name = use_installed_driver(encode_password(settings.uri)), settings.experiment
    artifacts = None  # the server's own folder
    # MLflow, SQLAlchemy, alembic and requests each have their own exceptions
    with raise_unreachable(uri, Exception), ExitStack() as lock:
        if uri.startswith("sqlite:///"):
            path, mark, options = uri.removeprefix("sqlite:///").partition("?")
            # `dvc exp run --temp` runs in a temporary copy of the workspace, which it deletes
            database = Path(re.sub(r"/\.dvc/tmp/exps/(standalone/)?[^/]+/", "/", str(Path(path).resolve())))
            lock.enter_context(FileLock(f"{database}.lock", timeout=60))
            artifacts = (database.parent / ARTIFACTS_FOLDER).as_uri()
            if database.exists():
                _update_artifact_paths(database, artifacts)
            else:
                create_database(database)
            uri = f"{sqlite_address(database)}{mark}{options}"
        client = MlflowClient(uri, registry_uri=uri)  # else MLFLOW_REGISTRY_URI would decide where models are
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            with _allow_existing():
                client.create_experiment(name, artifacts, EXPERIMENT_TAGS)
            experiment = client.get_experiment_by_name(name)
            assert experiment is not None
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
        return MlflowStore(client, uri, experiment.experiment_id)


def sqlite_address(database: Path) -> str:
    """Return the address of a SQLite file. If its path has a `%`, which SQLAlchemy decodes and MLflow does not, the
    address is relative to the current folder and encoded."""
    path = str(database)
    return f"sqlite:///{quote(os.path.relpath(path)) if '%' in path else path}"


def create_database(database: Path) -> None:
    """Create an empty SQLite store, under another name first: MLflow cannot open one whose creation was interrupted."""
    unfinished = database.with_name(f".{database.name}.new")
    unfinished.unlink(missing_ok=True)
    uri = sqlite_address(unfinished)
    MlflowClient(uri, registry_uri=uri).search_experiments(max_results=1)
    unfinished.rename(database)


def _update_artifact_paths(database: Path, artifacts_uri: str) -> None:
    """Replace the absolute paths in MLflow's database by URIs below `artifacts_uri`, if the project was moved."""
    moved = f"artifact_location LIKE 'file:%/{ARTIFACTS_FOLDER}' AND artifact_location != ?"
    query = f"SELECT DISTINCT artifact_location FROM experiments WHERE {moved}"
    with closing(sqlite3.connect(database)) as connection, connection:
        for (old_uri,) in connection.execute(query, (artifacts_uri,)).fetchall():
            for table, columns in PATH_COLUMNS.items():
                for column in columns:
                    update = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
                    connection.execute(update, (old_uri, artifacts_uri))
