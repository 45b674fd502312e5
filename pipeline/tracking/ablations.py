"""The runs of an ablation in MLflow: a parent run, and a child run per seed.

`LiveRuns` draws the curves while an ablation trains; `sync` makes the runs agree with the files, as often as one likes.
Both find the runs by `result_digest`, which is known before training and afterwards.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
from mlflow.entities import Run

from pipeline import files, switches
from pipeline.measurement.order_blind import is_order_blind
from pipeline.params import Ablation, Tracking
from pipeline.tracking.failures import BestEffort
from pipeline.tracking.machine import is_gone, machine, user
from pipeline.tracking.store import MlflowStore, connect
from pipeline.tracking.trained import TrainedAblation, curves, read, rows
from pipeline.training.convergence import Convergence, History, mean_curve

TRAINED, EVALUATED = "trained", "evaluated"
"""Tags with the digest of the training's and the evaluation's files, set once a run shows all of them."""
Runs = dict[int | None, Run]
"""Seed -> its run; None -> the parent."""


def result_digest(ablation: Ablation, digests: Mapping[str, str]) -> str:
    """The digest of everything that determines the ablation's result; `digests`: of the dataset's files."""
    # without defaults: a new switch that is off changes no digest
    sections = [
        section.model_dump(mode="json", exclude_defaults=True)
        for section in (ablation.task, ablation.model, ablation.training)
    ]
    content = [ablation.name, ablation.dataset, sections, dict(digests)]
    return files.digest(json.dumps(content, sort_keys=True).encode())


class LiveRuns(BestEffort):
    """The runs of an ablation while it trains. Leaving the context by an exception marks them as killed or failed.

    Earlier runs of the same result are deleted, because the files that they show are replaced.
    """

    def __init__(self, settings: Tracking, ablation: Ablation, digests: Mapping[str, str]) -> None:
        """`digests`: of the dataset's files."""
        self.settings, self.ablation, self.digests = settings, ablation, digests
        self.runs: Runs = {}
        self.history: History = []

    def __enter__(self) -> Self:
        self.started = time.monotonic()
        with self.warn_on_failure():
            self.store = connect(self.settings)
            end_killed(self.store)
            for run in self.store.find("result_digest", result_digest(self.ablation, self.digests)):
                self.store.delete(run.info.run_id)
            self.runs = _create_runs(self.store, self.ablation, self.digests, machine())
            self.store.monitor_machine(self.runs[None].info.run_id)
        return self

    def log_evaluation(self, evaluation: History) -> None:
        """Add an evaluation of the seeds that still train to their curves, and their mean to the parent's."""
        if self.store is None:
            return
        self.history += evaluation
        with self.warn_on_failure():
            columns = ("step", *curves(self.ablation))
            for row in evaluation:
                self.store.log_curve(self.runs[row["seed"]].info.run_id, [{name: row[name] for name in columns}])
            mean = mean_curve(pd.DataFrame(self.history), Convergence.of(self.ablation))
            self.store.log_curve(self.runs[None].info.run_id, rows(mean.tail(1)))

    def record(self, folder: Path) -> None:
        """Complete the runs from the files that training wrote."""
        if self.store is None:
            return
        with self.warn_on_failure():
            seconds = time.monotonic() - self.started
            self.store.log(self.runs[None].info.run_id, metrics={"training_seconds": seconds})
            sync(self.store, self.ablation, folder, None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or self.store is None:
            return
        with self.warn_on_failure():
            for run in self.runs.values():
                self.store.end(run.info.run_id, "KILLED" if kind is KeyboardInterrupt else "FAILED")


def end_killed(store: MlflowStore) -> None:
    """Mark the running runs of processes of this machine that no longer exist as killed."""
    for run in store.running():
        if is_gone(run.data.tags):
            store.end(run.info.run_id, "KILLED")


def record(settings: Tracking, ablation: Ablation, folder: Path, evaluation: Path) -> None:
    """As `sync`, but only warn if it fails: for stages, whose files are written by then."""
    with BestEffort().warn_on_failure():
        sync(connect(settings), ablation, folder, evaluation)


def sync(store: MlflowStore, ablation: Ablation, folder: Path, evaluation: Path | None) -> str:
    """Make the runs of the trained ablation in `folder` agree with its files; `added`, `completed` or `already there`.

    Runs that show another training's results, and incomplete sets of runs, are replaced.

    Raises:
        UserError: the ablation's files are missing or damaged.
    """
    trained = read(folder, ablation, evaluation)
    existing = store.find("result_digest", result_digest(trained.ablation, trained.digests))
    runs: Runs = {int(run.data.tags["seed"]) if "seed" in run.data.tags else None: run for run in existing}
    complete = len(runs) == len(existing) and set(runs) == {None, *trained.ablation.training.seeds}
    keep = complete and all(_agrees(store, trained, seed, run) for seed, run in runs.items())
    if not keep:
        for run in existing:
            store.delete(run.info.run_id)
        runs = _create_runs(store, trained.ablation, trained.digests, {})
    changes = [_add_missing(store, trained, seed, run) for seed, run in runs.items()]
    if not keep:
        return "added"
    return "completed" if any(changes) else "already there"


def _agrees(store: MlflowStore, trained: TrainedAblation, seed: int | None, run: Run) -> bool:
    """Whether everything that the run shows so far is what the files say."""
    if TRAINED in run.data.tags:
        return bool(run.data.tags[TRAINED] == trained.trained)
    score = Convergence.of(trained.ablation).column
    expected = {row["step"]: row[score] for row in trained.curve(seed)}
    return all(
        step in expected and math.isclose(value, expected[step], rel_tol=1e-5, abs_tol=1e-9)
        for step, value in store.curve(run.info.run_id, score).items()
    )


def _add_missing(store: MlflowStore, trained: TrainedAblation, seed: int | None, run: Run) -> bool:
    """Add to a run what the files have and it lacks; whether there was anything."""
    run_id, tags = run.info.run_id, run.data.tags
    lacks_training = tags.get(TRAINED) != trained.trained
    lacks_evaluation = trained.evaluation is not None and tags.get(EVALUATED) != trained.evaluated
    if lacks_training:
        steps = store.curve(run_id, Convergence.of(trained.ablation).column)
        store.log_curve(run_id, [row for row in trained.curve(seed) if row["step"] not in steps])
        for file in trained.files(seed):
            store.log_file(run_id, file)
    if seed is None and lacks_evaluation and trained.evaluation:
        store.log_file(run_id, trained.evaluation)
    if lacks_training or lacks_evaluation:
        metrics = {key: value for key, value in trained.metrics(seed).items() if run.data.metrics.get(key) != value}
        digests = {TRAINED: trained.trained} | ({EVALUATED: trained.evaluated} if trained.evaluation else {})
        if seed is None:
            store.log_model(run_id, trained.ablation.name, trained.folder, trained.metrics(None))
        store.log(run_id, metrics=metrics, tags=trained.tags(seed) | digests)
    if run.info.status != "FINISHED":
        store.end(run_id, "FINISHED")
    return lacks_training or lacks_evaluation


def _create_runs(
    store: MlflowStore, ablation: Ablation, digests: Mapping[str, str], machine_tags: Mapping[str, str]
) -> Runs:
    """Create the parent run and its children, with everything that is known before training."""
    tags = {
        "mlflow.user": user(),
        "mlflow.source.name": f"python -m pipeline train {ablation.name}",
        "result_digest": result_digest(ablation, digests),
        "ablation": ablation.name,
        "task": ablation.dataset,
        **switches.tags(ablation),
        "order_blind": str(is_order_blind(ablation.model)).lower(),
        **machine_tags,
    }
    runs: Runs = {None: store.create(ablation.name, {**tags, "role": "ablation"})}
    for seed in ablation.training.seeds:
        child = {**tags, "role": "run", "seed": str(seed)}
        runs[seed] = store.create(f"seed-{seed} {ablation.name}", child, parent=runs[None].info.run_id)
        store.log(runs[seed].info.run_id, params={"seed": seed})
    for run in runs.values():
        store.log(run.info.run_id, params=flat_settings(ablation))
        store.log_dataset(run.info.run_id, ablation.dataset, ablation.task.train_size, digests)
    return runs


def flat_settings(ablation: Ablation) -> dict[str, Any]:
    """Every setting of the ablation, as `section.key` -> value."""
    sections = {name: content for name, content in ablation.resolved().items() if isinstance(content, dict)}
    return {f"{name}.{key}": value for name, content in sections.items() for key, value in content.items()}
