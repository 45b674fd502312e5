"""One experiment of an MLflow store: a SQLite file, a database or a server."""

import json
import logging
import math
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pipeline.tracking.client import apply_client_settings

apply_client_settings()

import pandas as pd
from filelock import FileLock
from mlflow import MlflowClient, entities
from mlflow.entities import LoggedModel, Metric, Run
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException

from pipeline import files
from pipeline.params import Tracking
from pipeline.tracking.address import URI_VARIABLE, find_store_address, list_ignored_variables
from pipeline.tracking.databases import ARTIFACTS_FOLDER, connect_exclusively, sqlite_address, update_artifact_paths
from pipeline.tracking.failures import raise_unreachable

STORE_ERRORS = (MlflowException, OSError)
"""Exceptions that methods of `MlflowStore` raise. (Errors of the library requests are OSErrors.)"""
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # without it the pages ask whether this is about chat bots
    "mlflow.note.content": "One run per ablation (`tags.role = 'ablation'`), with a child run per seed "
    "(`tags.role = 'run'`). The trials of a search are `tags.role = 'trial'`. Of runs with other settings, those whose "
    "results are in the files have `tags.current = 'true'`.",
}
REPORT_ALIAS = "report"
"""Alias of the version of a registered model that the experiment's report is about."""


class MlflowStore:
    """Reads and writes the runs of one experiment in an MLflow store.

    Methods raise `STORE_ERRORS`. Metrics and curve points that are not finite are left out.
    """

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str, experiment: str) -> None:
        self.client, self.uri, self.experiment_id, self.experiment = client, uri, experiment_id, experiment

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
        """Log the trained ablation in `folder` as MLflow's model `name` of a run, with its metrics.

        If the run has a model already, only the metrics are logged.
        """
        model = self._find_model(run) or self._save_model(run.info.run_id, name, folder)
        self.client.log_batch(run.info.run_id, _finite_metrics(metrics, step=0, model_id=model.model_id))

    def register_model(self, run: Run, name: str, *, is_current: bool) -> None:
        """Register the model of a run as a version of MLflow's model `name` (of a study: `<study>-<name>`).

        If `is_current`, the version gets the alias `REPORT_ALIAS`. Nothing is done if all that was done before.
        """
        registered = f"{self.experiment}-{name}".removeprefix(f"{Tracking().experiment}-")
        registered = re.sub(r"[/:]", "-", registered)  # which MLflow does not allow
        run_id = run.info.run_id
        versions = list(self.client.search_model_versions(f"name = '{registered}' and run_id = '{run_id}'"))
        if not versions and (model := self._find_model(run)):
            with _allow("RESOURCE_ALREADY_EXISTS"):
                self.client.create_registered_model(registered)
            tags = {key: run.data.tags[key] for key in ("experiment", "result_digest")}
            source, model_id = model.artifact_location, model.model_id
            versions = [self.client.create_model_version(registered, source, run_id, tags=tags, model_id=model_id)]
        if versions and is_current and REPORT_ALIAS not in versions[0].aliases:
            self.client.set_registered_model_alias(registered, REPORT_ALIAS, versions[0].version)

    def _find_model(self, run: Run) -> LoggedModel | None:
        of_run = f"source_run_id = '{run.info.run_id}'"
        models = self.client.search_logged_models([self.experiment_id], filter_string=of_run)
        return next((model for model in models if model.status == entities.LoggedModelStatus.READY), None)

    def _save_model(self, run_id: str, name: str, folder: Path) -> LoggedModel:
        """Log the trained ablation in `folder` as a model."""
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

    def save_view(self, key: str, state: Mapping[str, Any]) -> None:
        """Store a view of the table of runs; MLflow's pages open it if their address has `viewStateShareKey=<key>`."""
        self.client.set_experiment_tag(self.experiment_id, f"mlflow.sharedViewState.{key}", json.dumps(state))

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
def _allow(*error_codes: str) -> Iterator[None]:
    """Ignore MLflow's errors with these codes, for instance that another process was quicker to create something."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in error_codes:
            raise


def open_store(settings: Tracking) -> MlflowStore:
    """Open the MLflow store and experiment that `settings` name, and create or restore them if necessary.

    The environment variable `MLFLOW_TRACKING_URI` has precedence over the address in `settings`. A SQLite or PostgreSQL
    store is opened under a lock, because processes that create or migrate a store at the same time break it.

    Raises:
        RunError: MLflow does not answer, or its database cannot be used.
        UserError: the variable has no address of a store.
    """
    for noisy in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    uri, _ = find_store_address(settings)
    name, artifacts = settings.experiment, None  # None: the server's own folder
    report_ignored_variables()
    # MLflow, SQLAlchemy, alembic and requests each have their own exceptions
    with raise_unreachable(uri, Exception), ExitStack() as lock:
        if uri.startswith("sqlite:///"):
            path, mark, options = uri.removeprefix("sqlite:///").partition("?")
            # `dvc exp run --temp` runs in a temporary copy of the workspace, which it deletes
            database = Path(re.sub(r"/\.dvc/tmp/exps/(standalone/)?[^/]+/", "/", str(Path(path).resolve())))
            lock.enter_context(FileLock(f"{database}.lock", timeout=60))
            artifacts = (database.parent / ARTIFACTS_FOLDER).as_uri()
            if database.exists():
                update_artifact_paths(database, artifacts)
            else:
                create_database(database)
            uri = f"{sqlite_address(database)}{mark}{options}"
        elif not uri.startswith("http"):
            uri = lock.enter_context(connect_exclusively(uri))
            artifacts = Path(ARTIFACTS_FOLDER).resolve().as_uri()
        client = MlflowClient(uri, registry_uri=uri)  # else MLFLOW_REGISTRY_URI would decide where models are
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            with _allow("RESOURCE_ALREADY_EXISTS"):
                client.create_experiment(name, artifacts, EXPERIMENT_TAGS)
            experiment = client.get_experiment_by_name(name)
            assert experiment is not None
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
        return MlflowStore(client, uri, experiment.experiment_id, name)


@cache
def report_ignored_variables() -> None:
    """Print one line, once in a process, if variables are set that MLflow reads and this project does not."""
    if names := list_ignored_variables():
        print(f"ignored: {', '.join(names)}; {URI_VARIABLE} says where runs and models go", file=sys.stderr)


def create_database(database: Path) -> None:
    """Create an empty SQLite store, under another name first: MLflow cannot open one whose creation was interrupted."""
    unfinished = database.with_name(f".{database.name}.new")
    unfinished.unlink(missing_ok=True)
    uri = sqlite_address(unfinished)
    MlflowClient(uri, registry_uri=uri).search_experiments(max_results=1)
    unfinished.rename(database)
