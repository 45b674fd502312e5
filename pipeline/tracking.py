"""MLflow, a view of the files: one parent run per ablation, one child per seed. The only file that imports mlflow.

The files are the truth. `LiveRuns` draws curves while a cell trains; `sync` makes the view agree with what lies on
the disk, as often as one likes. A run is found again by its identity: a digest of the cell's whole configuration and
dataset, known before training and afterwards. A server that is down costs seconds and a warning, never the training.
"""

import getpass
import json
import logging
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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

import pandas as pd
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipeline import files, trained_cell
from pipeline.measurement.order_blind import is_order_blind
from pipeline.params import Cell, Model, Task, Tracking, checked
from pipeline.refusal import Failed
from pipeline.trained_cell import CELL_CURVES, CURVES, TrainedCell

NOTE = "mlflow.note.content"
TRAINED, EVALUATED = "trained", "evaluated"
"""Tags: the digest of the files that a run shows in full. Written last."""
LOCK_SECONDS = 60
EXPERIMENT = {
    "mlflow.experimentKind": "custom_model_development",  # or the pages ask whether this is about chat bots
    NOTE: "A run per ablation, with a child per seed. Seeds: filter `tags.role = 'member'`, sort by a metric (sorted "
    "by time, their parents come along), group by the tag `ablation`. Ablations: filter `tags.role = 'cell'`.",
}

Runs = dict[int | None, Run]
"""Seed -> its run; None -> the cell's own."""


class Unreachable(Failed):
    """The tracking server does not answer, or not as MLflow."""


class Store:
    """An experiment in an MLflow store, and the few things we do there."""

    def __init__(self, client: MlflowClient, experiment: str) -> None:
        self.client = client
        self.experiment = experiment

    def find(self, identity: str) -> list[Run]:
        """The runs of that identity."""
        found: list[Run] = []
        page = None
        while page is None or page.token:
            token = page.token if page is not None else None
            page = self.client.search_runs([self.experiment], f"tags.identity = '{identity}'", page_token=token)
            found += page
        return found

    def create(self, name: str, tags: Mapping[str, str]) -> str:
        """A new run; its id."""
        run = self.client.create_run(self.experiment, tags=dict(tags), run_name=name)
        return str(run.info.run_id)

    def describe(self, run: str, *, params: Mapping[str, Any], metrics: Mapping[str, float], finished: bool) -> None:
        """Log parameters and numbers of a run in one request, and end it if it is `finished`."""
        now = int(time.time() * 1000)
        self.client.log_batch(
            run,
            metrics=[Metric(key, float(value), now, 0) for key, value in metrics.items()],
            params=[Param(key, str(value)[:6000]) for key, value in params.items()],
        )
        if finished:
            self.client.set_terminated(run, "FINISHED")

    def curve(self, run: str, rows: Sequence[Mapping[Any, Any]]) -> None:
        """Log evaluations, each whole within one request; what is not finite is left out."""
        now = int(time.time() * 1000)
        for start in range(0, len(rows), 150):  # a request holds at most 1,000 points
            points = [
                Metric(key, float(row[key]), now, int(row["step"]))
                for row in rows[start : start + 150]
                for key in dict.fromkeys((*CURVES, *CELL_CURVES))
                if row.get(key) is not None and math.isfinite(row[key])
            ]
            self.client.log_batch(run, metrics=points)


def connect(tracking: Tracking) -> Store:
    """Open the store, and make it and the experiment where there is none yet.

    A fresh SQLite store is made under a lock: several processes migrating it at once kill each other.

    Raises:
        Unreachable: no MLflow answers there.
    """
    for noisy in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        if tracking.uri.startswith("sqlite:"):
            database = Path(tracking.uri.removeprefix("sqlite:///").partition("?")[0])
            with FileLock(f"{database}.lock", timeout=LOCK_SECONDS):
                # MLflow's own choice, ./mlruns, is the folder of the file store that it refuses to read
                return _opened(tracking, artifacts=(database.resolve().parent / "mlartifacts").as_uri())
        return _opened(tracking, artifacts=None)
    except Exception as error:  # mlflow, SQLAlchemy and requests each have their own
        raise Unreachable(f"no MLflow at {_without_password(tracking.uri)}: {_reason(error)}") from None


def _opened(tracking: Tracking, *, artifacts: str | None) -> Store:
    client = MlflowClient(tracking.uri)
    experiment = client.get_experiment_by_name(tracking.experiment)
    if experiment is None:
        experiment = _created(client, tracking.experiment, artifacts)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return Store(client, experiment.experiment_id)


def _created(client: MlflowClient, name: str, artifacts: str | None) -> Experiment:
    try:
        return client.get_experiment(client.create_experiment(name, artifact_location=artifacts, tags=EXPERIMENT))
    except MlflowException:
        if (theirs := client.get_experiment_by_name(name)) is None:  # another process may have been quicker
            raise
        return theirs


def _without_password(text: str) -> str:
    return re.sub(r"://[^/\s]*@", "://***@", text)


def _reason(error: Exception) -> str:
    said = str(error).strip() or type(error).__name__
    return _without_password(said.splitlines()[0])[:200]


def warn(error: Exception, later: str = "`python -m pipeline track` shows them later") -> None:
    """One line; the results are not in danger."""
    print(f"warning: not tracked ({_reason(error)}); the results are in the files, {later}", file=sys.stderr)


def identity(
    name: str, task: Mapping[str, Any], model: Mapping[str, Any], training: Mapping[str, Any], data: Mapping[str, str]
) -> str:
    """What a cell's runs are found by: the digest of all that determines its result."""
    whole = json.dumps([name, task, model, training, data], sort_keys=True)
    return files.digest(whole.encode())


class LiveRuns:
    """The runs of a cell while it trains. Use as a context; leaving it by an exception marks them killed or failed.

    Earlier runs of the same identity are removed (MLflow can restore them): the files they showed are replaced.
    """

    def __init__(self, tracking: Tracking, cell: Cell, task: Task, data: Mapping[str, str]) -> None:
        self.tracking, self.cell = tracking, cell
        self.config = {
            "ablation": cell.name,
            "task": task.model_dump(mode="json"),
            "model": cell.model.model_dump(mode="json"),
            "training": cell.training.model_dump(mode="json"),
            "dataset": dict(data),
        }
        self.runs: dict[int | None, str] = {}
        self.history: list[dict[str, Any]] = []
        self.store: Store | None = None

    def __enter__(self) -> Self:
        self.started = time.monotonic()
        try:
            self.store = connect(self.tracking)
            for old in self.store.find(_identity(self.config)):
                self.store.client.delete_run(old.info.run_id)
            self.runs = _create_runs(self.store, self.config, machine())
        except Exception as error:
            self._give_up(error)
        return self

    def log_evaluation(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add one evaluation of the members still training to the curves, and the cell's state to the parent's."""
        if self.store is None:
            return
        self.history += rows
        try:
            for row in rows:
                self.store.curve(self.runs[row["seed"]], [row])
            so_far = trained_cell.cell_curve(pd.DataFrame(self.history), self.cell.training.converged_at)
            self.store.curve(self.runs[None], so_far.tail(1).to_dict("records"))
        except Exception as error:
            self._give_up(error)

    def record(self, folder: Path) -> None:
        """Complete the runs from the files that training wrote."""
        if self.store is None:
            return
        try:
            seconds = time.monotonic() - self.started
            self.store.client.log_metric(self.runs[None], "training_seconds", seconds)
            _sync(self.store, folder, None)
        except Exception as error:
            self._give_up(error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or self.store is None:
            return
        try:
            for run in self.runs.values():
                self.store.client.set_terminated(run, "KILLED" if kind is KeyboardInterrupt else "FAILED")
        except Exception as failure:
            self._give_up(failure)

    def _give_up(self, error: Exception) -> None:
        self.store = None
        warn(error)


def record(tracking: Tracking, folder: Path, evaluation: Path) -> None:
    """`sync`, with a warning where no MLflow answers: for stages, which have their files written by then."""
    try:
        sync(tracking, folder, evaluation)
    except Exception as error:
        warn(error)


def sync(tracking: Tracking, folder: Path, evaluation: Path | None) -> str:
    """Make the runs of the trained cell in `folder` agree with its files; what was done, in words.

    Raises:
        Unreachable: no MLflow answers, or it stopped to.
        Refused: the cell's files are missing or damaged.
    """
    store = connect(tracking)
    try:
        return _sync(store, folder, evaluation)
    except (MlflowException, OSError) as error:  # requests' are OSErrors
        raise Unreachable(f"MLflow at {_without_password(tracking.uri)} gave up: {_reason(error)}") from None


def _sync(store: Store, folder: Path, evaluation: Path | None) -> str:
    cell = trained_cell.read(folder, evaluation)
    runs, done = _existing_runs(store, cell), "already there"
    if not runs:
        _create_runs(store, cell.config, {})
        runs, done = _existing_runs(store, cell), "added"
    for seed, run in runs.items():
        changed = _show_training(store, cell, seed, run) | _show_evaluation(store, cell, seed, run)
        if run.info.status != "FINISHED":
            store.client.set_terminated(run.info.run_id, "FINISHED")
        if changed and done != "added":
            done = "completed"
    return done


def _show_training(store: Store, cell: TrainedCell, seed: int | None, run: Run) -> bool:
    """Whether anything was missing."""
    if run.data.tags.get(TRAINED) == cell.trained:
        return False
    rows = cell.curve(seed)
    lacking = rows[~rows["step"].isin(list(_points_shown(store, run)))]
    store.curve(run.info.run_id, lacking.to_dict("records"))
    own = ["config.json", "history.csv"] if seed is None else [f"seed-{seed}.safetensors"]
    for name in own:
        store.client.log_artifact(run.info.run_id, str(cell.folder / name))
    _show_outcome(store, cell, seed, run, {TRAINED: cell.trained})
    return True


def _show_evaluation(store: Store, cell: TrainedCell, seed: int | None, run: Run) -> bool:
    """Whether anything was missing."""
    if cell.evaluation is None or run.data.tags.get(EVALUATED) == cell.evaluated:
        return False
    if seed is None:
        store.client.log_artifact(run.info.run_id, str(cell.evaluation))
    _show_outcome(store, cell, seed, run, {EVALUATED: cell.evaluated})
    return True


def _show_outcome(store: Store, cell: TrainedCell, seed: int | None, run: Run, tags: Mapping[str, str]) -> None:
    if seed is None:
        metrics = trained_cell.cell_metrics(cell.outcomes)
        about = {NOTE: trained_cell.description(cell.config, cell.outcomes)}
    else:
        metrics = trained_cell.member_metrics(cell.outcome(seed))
        about = {"converged": trained_cell.verdict(cell.outcome(seed))}
    now = int(time.time() * 1000)
    points = [Metric(key, value, now, 0) for key, value in metrics.items() if run.data.metrics.get(key) != value]
    store.client.log_batch(
        run.info.run_id, metrics=points, tags=[RunTag(key, value) for key, value in {**about, **tags}.items()]
    )
    run.data.metrics.update(metrics)  # what is known of the run, so that the next call repeats nothing


def _identity(config: Mapping[str, Any]) -> str:
    return identity(config["ablation"], config["task"], config["model"], config["training"], config["dataset"])


def _digest(content: Any) -> str:
    return files.digest(json.dumps(content, sort_keys=True).encode())


def _existing_runs(store: Store, cell: TrainedCell) -> Runs:
    """The runs of the cell. If they are not complete, or show another training's results, all are removed."""
    found: Runs = {}
    doubled = False
    every = store.find(_identity(cell.config))
    for run in every:
        seed = int(run.data.tags["seed"]) if "seed" in run.data.tags else None
        doubled |= seed in found
        found[seed] = run
    whole = not doubled and set(found) == {None, *cell.config["training"]["seeds"]}
    if whole and all(_shows(store, cell, seed, run) for seed, run in found.items()):
        return found
    for run in every:
        store.client.delete_run(run.info.run_id)
    return {}


def _shows(store: Store, cell: TrainedCell, seed: int | None, run: Run) -> bool:
    """Whether what the run shows, be it all or not, is what the files say."""
    if TRAINED in run.data.tags:
        return bool(run.data.tags[TRAINED] == cell.trained)
    rows = cell.curve(seed)
    truth = dict(zip(rows["step"], rows["validation_exact_match"], strict=True))
    return all(
        step in truth and math.isclose(value, truth[step], rel_tol=1e-5, abs_tol=1e-9)
        for step, value in _points_shown(store, run).items()
    )


def _points_shown(store: Store, run: Run) -> dict[int, float]:
    """Step -> validation exact match, for the evaluations that the run shows."""
    if "validation_exact_match" not in run.data.metrics:
        return {}
    points = store.client.get_metric_history(run.info.run_id, "validation_exact_match")
    return {point.step: point.value for point in points}


def _create_runs(store: Store, config: Mapping[str, Any], extra: Mapping[str, str]) -> dict[int | None, str]:
    """A parent and its children, with everything that is known before training."""
    model = checked(Model, dict(config["model"]), "config.json: model")
    name = config["ablation"]
    tags = {
        "mlflow.user": _user(),
        "mlflow.source.name": f"python -m pipeline train {name}",
        "identity": _identity(config),
        "ablation": name,
        "task": str(config["task"]["name"]),
        "positional": model.positional,
        "attention": model.attention,
        "layers": str(model.layers),
        "residual_free_attention": " ".join(map(str, model.residual_free.attention)) or "none",
        "residual_free_mlp": " ".join(map(str, model.residual_free.mlp)) or "none",
        "residual_free_initialisation": model.residual_free_initialisation,
        "optimizer": str(config["training"]["optimizer"]),
        "order_blind": str(is_order_blind(model)).lower(),
        **extra,
    }
    params = [Param(key, value[:6000]) for key, value in _flattened(config).items()]
    data = [_dataset_input(config)]
    runs: dict[int | None, str] = {None: store.create(name, {**tags, "role": "cell"})}
    for seed in config["training"]["seeds"]:
        own = {**tags, "role": "member", "seed": str(seed), MLFLOW_PARENT_RUN_ID: str(runs[None])}
        runs[seed] = store.create(f"{name}/seed-{seed}", own)
    for seed, run in runs.items():
        own_seed = [Param("seed", str(seed))] if seed is not None else []
        store.client.log_batch(run, params=params + own_seed)
        store.client.log_inputs(run, datasets=data)
    return runs


def _flattened(config: Mapping[str, Any]) -> dict[str, str]:
    sections = {key: config[key] for key in ("task", "model", "training")}
    return {f"{section}.{key}": str(value) for section, values in sections.items() for key, value in values.items()}


def _dataset_input(config: Mapping[str, Any]) -> DatasetInput:
    digest = _digest(config["dataset"])[:12]  # MLflow takes 36 characters, a page shows a dozen
    name = str(config["task"]["name"])
    source = json.dumps({"uri": f"data/{name}"})
    profile = json.dumps({"num_rows": config["task"]["train_size"], **config["dataset"]})
    return DatasetInput(
        Dataset(name=name, digest=digest, source_type="local", source=source, profile=profile),
        [InputTag("mlflow.data.context", "training")],
    )


def machine() -> dict[str, str]:
    """Hardware and versions, which belong here and not into tracked files."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "machine.host": platform.node(),
        "machine.system": platform.platform(),
        "machine.python": platform.python_version(),
        "machine.processor": _processor(),
        "machine.gpu": gpu,
        "machine.threads": str(torch.get_num_threads()),
        "machine.torch": torch.__version__,
        "machine.lightning": version("pytorch-lightning"),
        "mlflow.source.git.commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _commit() -> str:
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() or "unknown"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
