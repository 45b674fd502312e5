"""MLflow, a view of the files: one parent run per ablation, one child per seed. The only file that imports mlflow.

The files are the truth. `LiveRuns` draws curves while a cell trains; `sync` makes the view agree with what lies on
the disk, as often as one likes. A run is found again by its identity: a digest of the cell's whole configuration and
dataset, known before training and afterwards. A server that is down costs seconds and a warning, never the training.
"""

import hashlib
import json
import logging
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

# Before mlflow is imported: by default its client tries a dead server for four minutes.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}.items():
    os.environ.setdefault(_name, _value)

import pandas as pd
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from pipeline import files
from pipeline.measurement.intervals import exact_interval
from pipeline.measurement.order_blind import is_order_blind
from pipeline.params import Cell, Model, Task, Tracking, checked
from pipeline.training.history import outcomes

CURVES = ("train_loss", "validation_loss", "validation_exact_match", "gradient_norm", "learning_rate")
NOTE = "mlflow.note.content"
LOCK_SECONDS = 120


class Unreachable(Exception):
    """The tracking server does not answer, or not as MLflow."""


class Store:
    """An experiment in an MLflow store, and the few things we do there."""

    def __init__(self, client: MlflowClient, experiment: str) -> None:
        self.client = client
        self.experiment = experiment

    def find(self, identity: str) -> list[Run]:
        """The runs of that identity, the newest first."""
        return list(self.client.search_runs([self.experiment], f"tags.identity = '{identity}'", max_results=100))

    def create(self, name: str, tags: Mapping[str, str]) -> str:
        """A new run; its id."""
        run = self.client.create_run(self.experiment, tags=dict(tags), run_name=name)
        return str(run.info.run_id)

    def curve(self, run: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log evaluations in one request; what is not finite is left out."""
        now = int(time.time() * 1000)
        points = [
            Metric(key, float(row[key]), now, int(row["step"]))
            for row in rows
            for key in CURVES
            if row.get(key) is not None and math.isfinite(row[key])
        ]
        for start in range(0, len(points), 900):  # a request holds at most 1,000
            self.client.log_batch(run, metrics=points[start : start + 900])


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
            with FileLock(f"{tracking.uri.removeprefix('sqlite:///')}.lock", timeout=LOCK_SECONDS):
                return _opened(tracking)
        return _opened(tracking)
    except Exception as error:  # mlflow, SQLAlchemy and requests each have their own
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise Unreachable(f"no MLflow at {_without_password(tracking.uri)}: {_without_password(reason)}") from None


def _opened(tracking: Tracking) -> Store:
    client = MlflowClient(tracking.uri)
    experiment = client.get_experiment_by_name(tracking.experiment)
    if experiment is None:
        return Store(client, client.create_experiment(tracking.experiment))
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return Store(client, experiment.experiment_id)


def _without_password(text: str) -> str:
    password = urlsplit(text).password if "://" in text else None
    return text.replace(f":{password}@", ":***@") if password else text


def warn(error: Exception) -> None:
    """One line; the results are not in danger."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    print(
        f"warning: not tracked ({reason}); the results are in the files, `python -m pipeline track` shows them later",
        file=sys.stderr,
    )


def identity(
    name: str, task: Mapping[str, Any], model: Mapping[str, Any], training: Mapping[str, Any], data: Mapping[str, str]
) -> str:
    """What a cell's runs are found by: the digest of all that determines its result."""
    whole = json.dumps([name, task, model, training, data], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


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
        self.last: dict[int, dict[str, Any]] = {}
        self.converged: set[int] = set()
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
        for row in rows:
            self.last[row["seed"]] = row
            if row["validation_exact_match"] >= self.cell.training.converged_at:
                self.converged.add(row["seed"])
        try:
            for row in rows:
                self.store.curve(self.runs[row["seed"]], [row])
            now, step = int(time.time() * 1000), rows[0]["step"]
            reached = [row["validation_exact_match"] for row in self.last.values()]
            cell_now = {"members_converged": len(self.converged), "validation_exact_match": sum(reached) / len(reached)}
            points = [Metric(key, float(value), now, step) for key, value in cell_now.items()]
            self.store.client.log_batch(self.runs[None], metrics=points)
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
        Unreachable: no MLflow answers.
        Refused: the cell's files are missing or damaged.
    """
    return _sync(connect(tracking), folder, evaluation if evaluation and evaluation.exists() else None)


def _sync(store: Store, folder: Path, evaluation: Path | None) -> str:
    made_by = f"python -m pipeline train {folder.name}"
    config = files.read_json(folder / "config.json", made_by=made_by)
    history = files.read_csv(folder / "history.csv", made_by=made_by)
    facts = outcomes(history, config["training"]["converged_at"])
    if evaluation:
        facts = files.read_csv(evaluation, made_by=f"python -m pipeline evaluate {folder.name}")
    runs = _existing_runs(store, config)
    done = "already there"
    if not runs:
        runs, done = _create_runs(store, config, {}), "added"
    for seed in config["training"]["seeds"]:
        name = f"seed-{seed}.safetensors"
        fact = facts[facts["seed"] == seed].iloc[0]
        run = store.client.get_run(runs[seed])
        shown = {point.step for point in store.client.get_metric_history(runs[seed], "learning_rate")}
        rows = history[(history["seed"] == seed) & ~history["step"].isin(shown)]
        store.curve(runs[seed], rows.to_dict("records"))
        changed = _complete(store, run, _member_metrics(fact), {"weights": config["weights"][name], **_verdict(fact)})
        _attach(store, run, [folder / name])
        if len(rows) or changed:
            done = "added" if done == "added" else "completed"
    parent = store.client.get_run(runs[None])
    weights = hashlib.sha256(json.dumps(config["weights"], sort_keys=True).encode()).hexdigest()
    _complete(store, parent, _cell_metrics(facts), {"weights": weights, NOTE: _note(config, facts)})
    _attach(store, parent, [folder / "config.json", folder / "history.csv", *([evaluation] if evaluation else [])])
    for run_id in runs.values():
        if store.client.get_run(run_id).info.status != "FINISHED":
            store.client.set_terminated(run_id, "FINISHED")
    return done


def _identity(config: Mapping[str, Any]) -> str:
    return identity(config["ablation"], config["task"], config["model"], config["training"], config["dataset"])


def _existing_runs(store: Store, config: Mapping[str, Any]) -> dict[int | None, str]:
    """Seed (None: the cell itself) -> run. Runs that are not complete, or show other weights, are removed."""
    found: dict[int | None, Run] = {}
    stale = []
    for run in store.find(_identity(config)):
        seed = int(run.data.tags["seed"]) if run.data.tags["role"] == "member" else None
        weights = run.data.tags.get("weights")
        other = seed is not None and weights not in (None, config["weights"].get(f"seed-{seed}.safetensors"))
        (stale.append(run) if other or seed in found else found.update({seed: run}))
    if stale or set(found) != {None, *config["training"]["seeds"]}:
        for run in [*stale, *found.values()]:
            store.client.delete_run(run.info.run_id)
        return {}
    return {seed: str(run.info.run_id) for seed, run in found.items()}


def _create_runs(store: Store, config: Mapping[str, Any], extra: Mapping[str, str]) -> dict[int | None, str]:
    """A parent and its children, with everything that is known before training."""
    model = checked(Model, dict(config["model"]), "config.json: model")
    name = config["ablation"]
    tags = {
        "identity": _identity(config),
        "ablation": name,
        "task": str(config["task"]["name"]),
        "positional": model.positional,
        "attention": model.attention,
        "layers": str(model.layers),
        "residual_free_attention": " ".join(map(str, model.residual_free.attention)) or "none",
        "residual_free_mlp": " ".join(map(str, model.residual_free.mlp)) or "none",
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
    digest = hashlib.sha256(json.dumps(config["dataset"], sort_keys=True).encode()).hexdigest()[:32]
    name = str(config["task"]["name"])
    source = json.dumps({"uri": f"data/{name}"})
    return DatasetInput(
        Dataset(name=name, digest=digest, source_type="local", source=source),
        [InputTag("mlflow.data.context", "training")],
    )


def _member_metrics(fact: pd.Series) -> dict[str, float]:
    wanted = ("converged", "diverged", "steps", "steps_to_converge", "test_exact_match")
    names = [name for name in fact.index if name in wanted or name.startswith(("digit_", "carries_"))]
    values = {name: fact[name] for name in names if not name.endswith("_examples") and pd.notna(fact[name])}
    return {name: float(value) for name, value in values.items()}


def _cell_metrics(facts: pd.DataFrame) -> dict[str, float]:
    converged, runs = int(facts["converged"].sum()), len(facts)
    low, high = exact_interval(converged, runs)
    metrics = {
        "runs": runs,
        "converged": converged,
        "converged_share": converged / runs,
        "converged_low": low,
        "converged_high": high,
    }
    if converged:
        metrics["steps_to_converge_median"] = float(facts["steps_to_converge"].median())
    if "test_exact_match" in facts:
        exact = facts["test_exact_match"]
        metrics |= {f"test_exact_match_{kind}": float(getattr(exact, kind)()) for kind in ("mean", "min", "max")}
        metrics["test_exact_match"] = float(exact.median())
    return metrics


def _verdict(fact: pd.Series) -> dict[str, str]:
    return {"converged": "diverged" if fact["diverged"] else "yes" if fact["converged"] else "no"}


def _note(config: Mapping[str, Any], facts: pd.DataFrame) -> str:
    converged, runs = int(facts["converged"].sum()), len(facts)
    free = config["model"]["residual_free"]
    return (
        f"**{converged} of {runs} seeds converged** (validation exact match of at least "
        f"{config['training']['converged_at']}).\n\nPositional encoding: {config['model']['positional']}; attention: "
        f"{config['model']['attention']}; layers: {config['model']['layers']}; without residual connection "
        f"(layers from 0): attention {free['attention'] or 'none'}, MLP {free['mlp'] or 'none'}."
    )


def _complete(store: Store, run: Run, metrics: Mapping[str, float], tags: Mapping[str, str]) -> bool:
    """Log what the run lacks or shows differently; whether there was anything."""
    now = int(time.time() * 1000)
    missing = [
        Metric(key, value, now, 0)
        for key, value in metrics.items()
        if not math.isclose(run.data.metrics.get(key, math.nan), value, rel_tol=1e-9)
    ]
    new_tags = [RunTag(key, value) for key, value in tags.items() if run.data.tags.get(key) != value]
    if missing or new_tags:
        store.client.log_batch(run.info.run_id, metrics=missing, tags=new_tags)
    return bool(missing or new_tags)


def _attach(store: Store, run: Run, paths: Sequence[Path]) -> None:
    there = {artifact.path: artifact.file_size for artifact in store.client.list_artifacts(run.info.run_id)}
    for path in paths:
        if there.get(path.name) != path.stat().st_size:
            store.client.log_artifact(run.info.run_id, str(path))


def machine() -> dict[str, str]:
    """Hardware and versions, which belong here and not into tracked files."""
    import torch

    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "machine.host": platform.node(),
        "machine.system": platform.platform(),
        "machine.python": platform.python_version(),
        "machine.processor": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or "cpu",
        "machine.threads": str(torch.get_num_threads()),
        "machine.torch": torch.__version__,
        "machine.lightning": version("pytorch-lightning"),
        "mlflow.source.git.commit": found.stdout.strip() or "unknown",
    }
