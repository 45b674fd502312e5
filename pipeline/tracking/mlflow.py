"""The back end MLflow: a database or a server that `mlflow ui` shows. The only file that imports mlflow."""

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Before mlflow is imported: by default its client tries a dead server for four minutes, and waits for as long as a
# busy one asks it to.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}.items():
    os.environ.setdefault(_name, _value)

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipeline import files
from pipeline.params import Tracking
from pipeline.tracking import Run, Unreachable, finite, reason, without_password

LOCK_SECONDS = 60
MOST_POINTS = 1000
"""In a request."""
LONGEST_PARAM = 6000
NOTE = "mlflow.note.content"
RESERVED = {"note": NOTE, "user": "mlflow.user", "source": "mlflow.source.name", "commit": "mlflow.source.git.commit"}
"""Our tag -> the one that MLflow's pages look at."""
EXPERIMENT = {
    "mlflow.experimentKind": "custom_model_development",  # or the pages ask whether this is about chat bots
    NOTE: "A run per ablation, with a child per seed. Seeds: filter `tags.role = 'member'`, sort by a metric (sorted "
    "by time, their parents come along), group by the tag `ablation`. Ablations: filter `tags.role = 'cell'`.",
}


class MlflowStore:
    """A `Store`: an experiment of MLflow."""

    def __init__(self, client: MlflowClient, uri: str, experiment: str) -> None:
        self.client, self.uri, self.experiment = client, uri, experiment

    def find(self, identity: str) -> list[Run]:
        wanted = f"tags.identity = '{identity}'"
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
        self._ask(self.client.set_terminated, run, status)

    def delete(self, run: str) -> None:
        """MLflow can restore it."""
        self._ask(self.client.delete_run, run)

    def _ask(self, request: Callable[..., Any], *what: Any, **more: Any) -> Any:
        """What MLflow answers."""
        try:
            return request(*what, **more)
        except (MlflowException, OSError) as error:  # those of requests are OSErrors
            raise Unreachable(f"MLflow at {without_password(self.uri)} gave up: {reason(error)}") from None


def _run(run: Any) -> Run:
    ours = {theirs: name for name, theirs in RESERVED.items()}
    tags = {ours.get(key, key): value for key, value in run.data.tags.items()}
    return Run(run.info.run_id, run.info.status, tags, run.data.metrics)


def _reserved(tags: Mapping[str, str]) -> dict[str, str]:
    return {RESERVED.get(key, key): value for key, value in tags.items()}


def _metrics(values: Mapping[str, Any], *, step: int) -> list[Metric]:
    now = int(time.time() * 1000)
    return [Metric(key, value, now, step) for key, value in finite(values).items()]


def open_store(settings: Tracking) -> MlflowStore:
    """Open the experiment, and make it and a SQLite store where there is none yet.

    A fresh SQLite store is made under a lock: several processes migrating it at once kill each other.

    Raises:
        Unreachable: no MLflow answers there.
    """
    for noisy in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        if settings.uri.startswith("sqlite:"):
            database = Path(settings.uri.removeprefix("sqlite:///").partition("?")[0])
            with FileLock(f"{database}.lock", timeout=LOCK_SECONDS):
                # MLflow's own choice, ./mlruns, is the folder of the file store that it refuses to read
                return _opened(settings, artifacts=(database.resolve().parent / "mlartifacts").as_uri())
        return _opened(settings, artifacts=None)
    except Exception as error:  # mlflow, SQLAlchemy and requests each have their own
        raise Unreachable(f"no MLflow at {without_password(settings.uri)}: {reason(error)}") from None


def _opened(settings: Tracking, *, artifacts: str | None) -> MlflowStore:
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
