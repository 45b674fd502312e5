"""The back end MLflow: a database or a server that `mlflow ui` shows. The only file that imports mlflow."""

import json
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import time
import warnings
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

# Before mlflow is imported: by default its client tries a dead server for four minutes, waits for as long as a busy one
# asks it to, and executes what it reads.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}.items():
    os.environ.setdefault(_name, _value)

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    InputTag,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunTag,
)
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipeline import files
from pipeline.errors import UserError
from pipeline.params import Tracking
from pipeline.tracking import Run, Unreachable, finite, first_line, hide_password, workspace_path

LOCK_SECONDS = 60
ARTIFACTS = "mlartifacts"
"""The folder beside a SQLite store that holds its runs' files."""
PATHS = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Tables and columns, beside that of the experiments, in which MLflow keeps where that folder is."""
MOST_POINTS = 1000
"""In a request."""
LONGEST_PARAM = 6000
NOTE = "mlflow.note.content"
RESERVED = {"note": NOTE, "user": "mlflow.user", "source": "mlflow.source.name", "commit": "mlflow.source.git.commit"}
"""Our tag -> the one that MLflow's pages look at."""
EXPERIMENT = {
    "mlflow.experimentKind": "custom_model_development",  # or the pages ask whether this is about chat bots
    NOTE: "A run per ablation, with a child per seed. Seeds: filter `tags.role = 'member'`, sort by a metric (sorted "
    "by time, their parents come along), group by the tag `ablation`. Ablations: filter `tags.role = 'ablation'`.",
}


class MlflowStore:
    """A `Store`: an experiment of MLflow."""

    def __init__(self, client: MlflowClient, uri: str, experiment: str) -> None:
        self.client, self.uri, self.experiment = client, uri, experiment
        self.monitors: dict[str, Any] = {}
        """Of the machine, by the run that they watch it for."""

    def find(self, identity: str) -> list[Run]:
        return self._runs(f"tags.identity = '{identity}'")

    def running(self) -> list[Run]:
        return self._runs("attributes.status = 'RUNNING'")

    def _runs(self, wanted: str) -> list[Run]:
        page = self._ask(self.client.search_runs, [self.experiment], wanted)
        found = [*page]
        while page.token:
            page = self._ask(self.client.search_runs, [self.experiment], wanted, page_token=page.token)
            found += page
        return [_run(run) for run in found]

    def create(self, name: str, tags: Mapping[str, str], parent: str = "") -> Run:
        above = {MLFLOW_PARENT_RUN_ID: parent} if parent else {}
        return _run(self._ask(self.client.create_run, self.experiment, tags=_reserved(tags) | above, run_name=name))

    def log(
        self, run: str, *, params: Mapping[str, Any] = {}, metrics: Mapping[str, Any] = {}, tags: Mapping[str, str] = {}
    ) -> None:
        self._ask(
            self.client.log_batch,
            run,
            metrics=_metrics(metrics, step=0),
            params=[Param(key, str(value)[:LONGEST_PARAM]) for key, value in params.items()],
            tags=[RunTag(key, value) for key, value in _reserved(tags).items()],
        )

    def curve(self, run: str, rows: Sequence[Mapping[str, Any]]) -> None:
        at_once = MOST_POINTS // max(map(len, rows), default=1)
        for start in range(0, len(rows), at_once):
            chosen = rows[start : start + at_once]
            points = [metric for row in chosen for metric in _metrics(row, step=int(row["step"]))]
            self._ask(self.client.log_batch, run, metrics=points)

    def points(self, run: str, metric: str) -> dict[int, float]:
        return {point.step: point.value for point in self._ask(self.client.get_metric_history, run, metric)}

    def artifact(self, run: str, file: Path) -> None:
        self._ask(self.client.log_artifact, run, str(file))

    def model(self, run: str, name: str, folder: Path, metrics: Mapping[str, Any]) -> None:
        """A logged model, and a version of the registered one of the ablation's name: `models:/nope-causal/1`."""
        mine = f"source_run_id = '{run}'"
        found = self._ask(self.client.search_logged_models, [self.experiment], filter_string=mine)
        whole = [model.model_id for model in found if model.status == LoggedModelStatus.READY]
        kept = whole[0] if whole else self._logged(run, name, folder)
        self._ask(self.client.log_batch, run, metrics=_metrics(metrics, step=0, model_id=kept))

    def _logged(self, run: str, name: str, folder: Path) -> str:
        """Its id."""
        model = self._ask(self.client.create_logged_model, self.experiment, name, run, model_type="transformer")
        made, where = str(model.model_id), model.artifact_location
        with TemporaryDirectory() as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own type hints, and for want of an example
            from mlflow.models import Model, ModelSignature
            from mlflow.pyfunc import save_model
            from mlflow.types import ColSpec, Schema

            text = Schema([ColSpec("string")])
            save_model(
                f"{temporary}/model",
                loader_module="pipeline.served",
                data_path=str(folder),
                mlflow_model=Model(model_id=made, run_id=run),
                signature=ModelSignature(inputs=text, outputs=text),
                pip_requirements=[],  # it is loaded where this project is installed
            )
            self._ask(self.client.log_model_artifacts, made, f"{temporary}/model")
        self._ask(self.client.log_outputs, run, [LoggedModelOutput(made, step=0)])
        self._ask(self.client.create_model_version, self._registered(name), where, run, model_id=made)
        self._ask(self.client.finalize_logged_model, made, "READY")
        return made

    def _registered(self, name: str) -> str:
        """The name by which an ablation is registered, once; a study's ablations have the study's name before theirs."""
        title = self._ask(self.client.get_experiment, self.experiment).name
        own = f"{title}-{name}".removeprefix(f"{Tracking().experiment}-")
        try:
            self.client.create_registered_model(own)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise Unreachable(f"MLflow at {hide_password(self.uri)} gave up: {first_line(error)}") from None
        return own

    def watch(self, run: str) -> None:
        """As MLflow's own runs: if `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING` says so."""
        if MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get():
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self.monitors[run] = SystemMetricsMonitor(run, tracking_uri=self.uri)
            self.monitors[run].start()

    def dataset(self, run: str, name: str, rows: int, digests: Mapping[str, str]) -> None:
        whole = files.digest(json.dumps(dict(digests), sort_keys=True).encode())
        used = Dataset(
            name=name,
            digest=whole[:12],  # MLflow takes 36 characters, a page shows a dozen
            source_type="local",
            source=json.dumps({"uri": f"data/{name}"}),
            profile=json.dumps({"num_rows": rows, **digests}),
        )
        learned_from = DatasetInput(used, [InputTag("mlflow.data.context", "training")])
        self._ask(self.client.log_inputs, run, datasets=[learned_from])

    def end(self, run: str, status: str) -> None:
        if monitor := self.monitors.pop(run, None):
            monitor.finish()
        self._ask(self.client.set_terminated, run, status)

    def delete(self, run: str) -> None:
        """MLflow can restore it."""
        self._ask(self.client.delete_run, run)

    def _ask(self, request: Callable[..., Any], *what: Any, **more: Any) -> Any:
        """What MLflow answers."""
        try:
            return request(*what, **more)
        except (MlflowException, OSError) as error:  # those of requests are OSErrors
            raise Unreachable(f"MLflow at {hide_password(self.uri)} gave up: {first_line(error)}") from None


def _run(run: Any) -> Run:
    ours = {theirs: name for name, theirs in RESERVED.items()}
    tags = {ours.get(key, key): value for key, value in run.data.tags.items()}
    return Run(run.info.run_id, run.info.status, tags, run.data.metrics)


def _reserved(tags: Mapping[str, str]) -> dict[str, str]:
    return {RESERVED.get(key, key): value for key, value in tags.items()}


def _metrics(values: Mapping[str, Any], *, step: int, model_id: str | None = None) -> list[Metric]:
    now = int(time.time() * 1000)
    return [Metric(key, value, now, step, model_id) for key, value in finite(values).items()]


def open_store(settings: Tracking) -> MlflowStore:
    """Open the experiment, and make it and a SQLite store where there is none yet.

    A fresh SQLite store is made under a lock: several processes migrating it at once kill each other.

    Raises:
        Unreachable: no MLflow answers there.
    """
    for noisy in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        if (database := _database(settings)) is None:
            return _opened(settings, artifacts=None)
        with FileLock(f"{database}.lock", timeout=LOCK_SECONDS):
            # MLflow's own choice, ./mlruns, is the folder of the file store that it refuses to read
            artifacts = (database.parent / ARTIFACTS).as_uri()
            if database.exists():
                _follow_folder(database, artifacts)
            else:
                _made(database)
            return _opened(settings.model_copy(update={"uri": _address(settings)}), artifacts)
    except Exception as error:  # mlflow, SQLAlchemy and requests each have their own
        raise Unreachable(f"no MLflow at {hide_password(settings.uri)}: {first_line(error)}") from None


def _made(database: Path) -> None:
    """An empty store. MLflow makes its tables one after the other, and never again opens a file that has but some of
    them: who is killed meanwhile leaves none."""
    beside = database.with_name(f".{database.name}.new")
    beside.unlink(missing_ok=True)
    MlflowClient(f"sqlite:///{beside}").search_experiments(max_results=1)
    beside.rename(database)


def _database(settings: Tracking) -> Path | None:
    """The file of a SQLite store."""
    path = settings.uri.removeprefix("sqlite:///")
    return workspace_path(Path(path.partition("?")[0])) if path != settings.uri else None


def _address(settings: Tracking) -> str:
    """Of the store, from wherever one is."""
    database, (_, mark, options) = _database(settings), settings.uri.partition("?")
    return settings.uri if database is None else f"sqlite:///{database}{mark}{options}"


def _follow_folder(database: Path, artifacts: str) -> None:
    """MLflow keeps whole paths: of a store that was moved with its artifacts, point them to where they are now."""
    with closing(sqlite3.connect(database)) as connection, connection:
        columns = "experiments", "artifact_location"
        kept = {row[0] for row in connection.execute("SELECT {1} FROM {0}".format(*columns))}
        moved = {one for one in kept if one.startswith("file:") and one.endswith(f"/{ARTIFACTS}")} - {artifacts}
        for old in moved:
            for table, column in (columns, *PATHS):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (artifacts, len(old) + 1, len(old), old),
                )


def _opened(settings: Tracking, artifacts: str | None) -> MlflowStore:
    client = MlflowClient(settings.uri)
    experiment = client.get_experiment_by_name(settings.experiment)
    if experiment is None:
        experiment = _created(client, settings.experiment, artifacts)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return MlflowStore(client, settings.uri, experiment.experiment_id)


def _created(client: MlflowClient, name: str, artifacts: str | None) -> Experiment:
    try:
        return client.get_experiment(client.create_experiment(name, artifact_location=artifacts, tags=EXPERIMENT))
    except MlflowException:
        if (theirs := client.get_experiment_by_name(name)) is None:  # another process may have been quicker
            raise
        return theirs


def name_call(run: str) -> None:
    """Of the run that `mlflow run` made for its call: the entry point and its parameters are its name."""
    client = MlflowClient()
    there = client.get_run(run)
    entry_point = there.data.tags.get("mlflow.project.entryPoint", "main")
    client.update_run(run, name=" ".join(["mlflow run", entry_point, *there.data.params.values()]))
    client.set_tag(run, "role", "call")


def serve(settings: Tracking, port: int) -> None:
    """MLflow's pages, with the experiment's runs first; where the store is a server, only its address is said."""
    store = open_store(settings)
    runs = (
        f"#/experiments/{store.experiment}/runs?workflowType=machine_learning"  # or it opens on pages about chat bots
    )
    if store.uri.startswith("http"):
        print(f"The runs: {hide_password(store.uri).rstrip('/')}/{runs}")
        return
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise UserError(f"--port: {port} is taken; give another")
    address = f"http://127.0.0.1:{port}/{runs}"
    print(f"The runs: {address} (a few seconds from now; Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--default-artifact-root", "mlflow-artifacts:/"]
    told = {"MLFLOW_BACKEND_STORE_URI": store.uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # not in `ps`
    with subprocess.Popen(command, env=os.environ | told) as pages:
        if any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY")) or sys.platform in ("darwin", "win32"):
            _open_when_up(pages, address)
        pages.wait()


def _open_when_up(pages: "subprocess.Popen[bytes]", address: str) -> None:
    health = f"{address.partition('#')[0]}health"
    while pages.poll() is None:
        try:
            with urlopen(health, timeout=1):
                webbrowser.open(address)
                return
        except OSError:
            time.sleep(0.2)
