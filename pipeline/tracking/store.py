"""One experiment of an MLflow store: a SQLite file, a database or a server."""

import json
import logging
import math
import os
import re
import sqlite3
import time
import warnings
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

# MLflow reads these when it is imported. By default its client tries a dead server for four minutes, waits for a busy
# one as long as that demands, and unpickles what it reads.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}.items():
    os.environ.setdefault(_name, _value)

import pandas as pd
from filelock import FileLock
from mlflow import MlflowClient, entities
from mlflow.entities import Metric, Run
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException

from pipeline import files
from pipeline.params import Tracking
from pipeline.tracking.failures import raise_unreachable

STORE_ERRORS = (MlflowException, OSError)
"""Exceptions that methods of `MlflowStore` raise. (Errors of the library requests are OSErrors.)"""
LOCK_TIMEOUT_SECONDS = 60
"""Time for which a process waits until others have opened a SQLite store."""
ARTIFACTS_FOLDER = "mlartifacts"
"""Name of the folder, beside a SQLite store, that holds the files of runs. (It is not MLflow's default name, `mlruns`,
which was also the name of its former file store: MLflow refuses to read that.)"""
PATH_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""`table, column` of MLflow's database with absolute paths of files below `ARTIFACTS_FOLDER`."""
MAX_POINTS_PER_REQUEST = 1000
"""Largest number of curve points that MLflow accepts in a request."""
MAX_RUNS_PER_QUERY = 50_000
"""Largest number of runs that MLflow returns for a query."""
MAX_PARAM_LENGTH = 6000
"""Largest number of characters in a parameter's value that MLflow accepts."""
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # without it the pages ask whether this is about chat bots
    "mlflow.note.content": "One run per ablation, with a child run per seed. "
    "To compare ablations, filter by `tags.role = 'ablation'`. To compare seeds, filter by `tags.role = 'run'`, sort "
    "by a metric (a table sorted by time also shows their parents) and group by the tag `ablation`. "
    "The trials of a search are `tags.role = 'trial'`.",
}


class MlflowStore:
    """Reads and writes the runs of one experiment in an MLflow store.

    Methods take the id of a run, and raise `STORE_ERRORS`. Metrics and curve points that are not finite are left out.
    """

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str) -> None:
        self.client, self.uri, self.experiment_id = client, uri, experiment_id
        self.monitors: dict[str, Any] = {}
        """Id of a run -> thread that logs the machine's load to that run."""

    def find_runs(self, tag: str, value: str) -> list[Run]:
        """Return all runs whose tag `tag` has this value, except deleted runs."""
        return self._search_runs(f"tags.{tag} = '{value}'")

    def find_unfinished_runs(self) -> list[Run]:
        """Return all runs that are still running, except deleted runs."""
        return self._search_runs("attributes.status = 'RUNNING'")

    def _search_runs(self, condition: str) -> list[Run]:
        return [*self.client.search_runs([self.experiment_id], condition, max_results=MAX_RUNS_PER_QUERY)]

    def create_run(self, name: str, tags: Mapping[str, str], parent_id: str = "") -> Run:
        """Create a run; `parent_id` is the id of the parent run, if there is one."""
        parents = {"mlflow.parentRunId": parent_id} if parent_id else {}
        return self.client.create_run(self.experiment_id, tags={**tags, **parents}, run_name=name)

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] = {},
        metrics: Mapping[str, Any] = {},
        tags: Mapping[str, str] = {},
    ) -> None:
        """Add parameters, metrics and tags to a run. Existing metrics and tags get the new value."""
        self.client.log_batch(
            run_id,
            metrics=_finite_metrics(metrics, step=0),
            params=[entities.Param(key, str(value)[:MAX_PARAM_LENGTH]) for key, value in params.items()],
            tags=[entities.RunTag(key, value) for key, value in tags.items()],
        )

    def log_curve(self, run_id: str, table: pd.DataFrame) -> None:
        """Add points to the curves of a run: each column of the table is a curve, each row a step (column `step`).

        After a failure, no row is half added.
        """
        rows_per_request = MAX_POINTS_PER_REQUEST // max(1, len(table.columns))
        for start in range(0, len(table), rows_per_request):
            rows = table.iloc[start : start + rows_per_request].to_dict("records")
            self.client.log_batch(
                run_id, [point for row in rows for point in _finite_metrics(row, step=int(row["step"]))]
            )

    def read_curve(self, run_id: str, metric: str) -> dict[int, float]:
        """Return the curve of a run's metric, as step -> value."""
        return {point.step: point.value for point in self.client.get_metric_history(run_id, metric)}

    def log_model(self, run_id: str, name: str, folder: Path, metrics: Mapping[str, Any]) -> None:
        """Register the trained ablation in `folder` as a version of MLflow's model `name`, and log the model's metrics.

        If the run has a registered model already, only the metrics are logged.
        """
        models = self.client.search_logged_models([self.experiment_id], filter_string=f"source_run_id = '{run_id}'")
        ready = [model.model_id for model in models if model.status == entities.LoggedModelStatus.READY]
        model_id = ready[0] if ready else self._register_model(run_id, name, folder)
        self.client.log_batch(run_id, _finite_metrics(metrics, step=0, model_id=model_id))

    def _register_model(self, run_id: str, name: str, folder: Path) -> str:
        """Log the trained ablation in `folder` as a model, register the model, and return the model's id."""
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
        # a model of a study is registered as <study>-<ablation>
        title = self.client.get_experiment(self.experiment_id).name
        registered = f"{title}-{name}".removeprefix(f"{Tracking().experiment}-")
        try:
            self.client.create_registered_model(registered)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        self.client.create_model_version(registered, model.artifact_location, run_id, model_id=model_id)
        self.client.finalize_logged_model(model_id, "READY")
        return model_id

    def log_dataset(self, run_id: str, dataset_name: str, example_count: int, file_digests: Mapping[str, str]) -> None:
        """Log that the run was trained on `example_count` examples of the dataset in `data/<dataset_name>/`.

        `file_digests` holds the digest of each file of the dataset.
        """
        digest = files.compute_digest_of_values(dict(file_digests))
        dataset = entities.Dataset(
            name=dataset_name,
            digest=digest[:12],  # MLflow takes 36 characters, its pages show a dozen
            source_type="local",
            source=json.dumps({"uri": f"data/{dataset_name}"}),
            profile=json.dumps({"num_rows": example_count, **file_digests}),
        )
        training = entities.InputTag("mlflow.data.context", "training")
        self.client.log_inputs(run_id, datasets=[entities.DatasetInput(dataset, [training])])

    def monitor_machine(self, run_id: str) -> None:
        """Log the machine's load until the run ends, if the environment variable
        `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING` is true."""
        if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self.monitors[run_id] = SystemMetricsMonitor(run_id, tracking_uri=self.uri)
            self.monitors[run_id].start()

    def end_run(self, run_id: str, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """Set the final status of a run."""
        if monitor := self.monitors.pop(run_id, None):
            monitor.finish()
        self.client.set_terminated(run_id, status)

    def delete_run(self, run_id: str) -> None:
        """Delete a run. MLflow can restore deleted runs."""
        self.client.delete_run(run_id)


def _finite_metrics(values: Mapping[Any, Any], *, step: int, model_id: str | None = None) -> list[Metric]:
    """Return MLflow's metric objects for all finite values except `step`."""
    now = int(time.time() * 1000)
    numbers = {key: float(value) for key, value in values.items() if key != "step" and value is not None}
    return [Metric(key, value, now, step, model_id) for key, value in numbers.items() if math.isfinite(value)]


def open_store(settings: Tracking) -> MlflowStore:
    """Open the MLflow store and experiment that `settings` name, and create them if they do not exist.

    A SQLite store is opened under a lock, because processes that create or migrate a store at the same time break it.

    Raises:
        MlflowUnreachable: MLflow does not answer, or its database cannot be used.
    """
    for noisy in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with raise_unreachable(settings.uri, Exception):  # MLflow, SQLAlchemy, alembic and requests each have their own
        path, mark, options = settings.uri.removeprefix("sqlite:///").partition("?")
        if not settings.uri.startswith("sqlite:///"):
            return _open_experiment(settings.uri, settings.experiment, artifacts_uri=None)
        database = workspace_path(Path(path))
        with FileLock(f"{database}.lock", timeout=LOCK_TIMEOUT_SECONDS):
            artifacts = (database.parent / ARTIFACTS_FOLDER).as_uri()
            if database.exists():
                _update_artifact_paths(database, artifacts)
            else:
                create_database(database)
            return _open_experiment(f"sqlite:///{database}{mark}{options}", settings.experiment, artifacts)


def workspace_path(path: Path) -> Path:
    """Make a path absolute.

    A path in the temporary copy of the workspace in which `dvc exp run --temp` runs is mapped to the workspace, because
    DVC deletes the copy.
    """
    return Path(re.sub(r"/\.dvc/tmp/exps/(standalone/)?[^/]+/", "/", str(path.resolve())))


def create_database(database: Path) -> None:
    """Create an empty SQLite store.

    The store is created under another name and then renamed, because MLflow cannot open a store whose creation was
    interrupted.
    """
    unfinished = database.with_name(f".{database.name}.new")
    unfinished.unlink(missing_ok=True)
    MlflowClient(f"sqlite:///{unfinished}").search_experiments(max_results=1)
    unfinished.rename(database)


def _update_artifact_paths(database: Path, artifacts_uri: str) -> None:
    """Replace the absolute paths in MLflow's database by URIs below `artifacts_uri`, if the project was moved."""
    with closing(sqlite3.connect(database)) as connection, connection:
        locations = {row[0] for row in connection.execute("SELECT artifact_location FROM experiments")}
        ours = {uri for uri in locations if uri.startswith("file:") and uri.endswith(f"/{ARTIFACTS_FOLDER}")}
        for old in ours - {artifacts_uri}:
            for table, column in PATH_COLUMNS:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (artifacts_uri, len(old) + 1, len(old), old),
                )


def _open_experiment(uri: str, name: str, artifacts_uri: str | None) -> MlflowStore:
    """Open the MLflow experiment `name`, and create or restore it if necessary.

    `artifacts_uri` is the folder for the files of runs; None: the server's own folder.
    """
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return MlflowStore(client, uri, client.create_experiment(name, artifacts_uri, EXPERIMENT_TAGS))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)  # another process may have been quicker
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return MlflowStore(client, uri, experiment.experiment_id)
