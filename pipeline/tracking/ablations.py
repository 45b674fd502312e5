"""The runs of an ablation in MLflow: a parent run, and a child run per seed.

`LiveRuns` draws the curves while an ablation trains; `sync` makes the runs agree with the files, as often as one likes.
Both find the runs by `result_digest`, which is known before training and afterwards.
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from pipeline import files, switches
from pipeline.errors import UserError
from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.params import Ablation, Tracking
from pipeline.tasks.registry import parse_task
from pipeline.tracking.contents import RunContent, curve_columns, run_contents
from pipeline.tracking.failures import BestEffortWriter
from pipeline.tracking.machine import has_exited, machine_tags
from pipeline.tracking.store import MlflowStore, Run, connect
from pipeline.training.artifact import Artifact
from pipeline.training.convergence import Convergence, History, mean_learning_curve

TRAINED_TAG, EVALUATED_TAG = "trained", "evaluated"
"""Tags of a complete run: digests of the artifact and of the evaluation that it shows."""
RunsBySeed = dict[int | None, Run]
"""Seed -> its run in MLflow; None -> the parent run of the ablation."""


def result_digest(ablation: Ablation, digests: Mapping[str, str]) -> str:
    """Digest of everything that determines the ablation's result; `digests` are those of the dataset's files."""
    # without defaults: a new switch that is off changes no digest
    sections = [
        section.model_dump(mode="json", exclude_defaults=True)
        for section in (ablation.task, ablation.model, ablation.training)
    ]
    content = [ablation.name, ablation.dataset, sections, dict(digests)]
    return files.digest_values(content)


class LiveRuns(BestEffortWriter):
    """Context manager that shows the runs of an ablation while it trains, and marks them as killed or failed when it is
    left by an exception.

    Earlier runs with the same `result_digest` are deleted, because the files that they show are replaced.
    """

    def __init__(self, settings: Tracking, ablation: Ablation, digests: Mapping[str, str]) -> None:
        """Prepare the runs of `ablation`, trained on a dataset whose files have these digests."""
        self.settings, self.ablation, self.digests = settings, ablation, digests
        self.runs: RunsBySeed = {}
        self.history: History = []

    def __enter__(self) -> Self:
        self.started = time.monotonic()
        with self.warn_on_failure():
            self.store = connect(self.settings)
            mark_killed_runs(self.store)
            for run in self.store.find("result_digest", result_digest(self.ablation, self.digests)):
                self.store.delete(run.info.run_id)
            self.runs = _create_runs(self.store, self.ablation, self.digests, machine_tags())
            self.store.monitor_machine(self.runs[None].info.run_id)
        return self

    def log_evaluation(self, evaluation: History) -> None:
        """Add an evaluation of all seeds that still train to their curves, and its mean to the parent's curve."""
        if self.store is None:
            return
        self.history += evaluation
        with self.warn_on_failure():
            for row in evaluation:
                curve = pd.DataFrame([row])[["step", *curve_columns(self.ablation)]]
                self.store.log_curve(self.runs[row["seed"]].info.run_id, curve)
            mean = mean_learning_curve(pd.DataFrame(self.history), Convergence.for_ablation(self.ablation))
            self.store.log_curve(self.runs[None].info.run_id, mean.tail(1))

    def complete(self, folder: Path) -> None:
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


def mark_killed_runs(store: MlflowStore) -> None:
    """Mark runs as killed that are still running in the store but whose process on this machine has exited."""
    for run in store.running():
        if has_exited(run.data.tags):
            store.end(run.info.run_id, "KILLED")


def sync_or_warn(settings: Tracking, ablation: Ablation, folder: Path, evaluation: Path) -> None:
    """Synchronise an ablation's runs with its files, and only print a warning if that fails."""
    with BestEffortWriter().warn_on_failure():
        sync(connect(settings), ablation, folder, evaluation)


def sync(store: MlflowStore, ablation: Ablation, folder: Path, evaluation: Path | None) -> str:
    """Make the runs of the trained ablation in `folder` agree with its files.

    Runs that show another training's results, and incomplete sets of runs, are replaced. An evaluation that does not
    exist, or is of an earlier training, is left out. Returns `added`, `completed` or `already there`.

    Raises:
        UserError: the ablation's files are missing or damaged.
    """
    artifact = read_complete_artifact(folder, ablation.name)
    ablation, score = artifact.ablation, Convergence.for_ablation(artifact.ablation).score_column
    digests, table = {TRAINED_TAG: artifact.digest}, None
    if evaluation and evaluation.exists():
        evaluated = files.open_verified(
            evaluation.parent, creating_command=f"python -m pipeline evaluate {ablation.name}"
        )
        if evaluated.subject == artifact.digest:
            digests[EVALUATED_TAG], table = evaluated.digest, evaluated.csv(evaluation.name)
    contents = run_contents(artifact, table)
    existing = store.find("result_digest", result_digest(ablation, artifact.dataset_digests))
    runs: RunsBySeed = {int(run.data.tags["seed"]) if "seed" in run.data.tags else None: run for run in existing}
    keep = len(runs) == len(existing) and set(runs) == set(contents)
    keep = keep and all(_shows_same_training(store, run, contents[seed], score, digests) for seed, run in runs.items())
    if not keep:
        for run in existing:
            store.delete(run.info.run_id)
        runs = _create_runs(store, ablation, artifact.dataset_digests, {})
    lacking = {seed: run for seed, run in runs.items() if not digests.items() <= run.data.tags.items()}
    if None in lacking:
        store.log_model(runs[None].info.run_id, ablation.name, folder, contents[None].metrics)
    for seed, run in lacking.items():
        _add_missing(store, run, contents[seed], score, digests)
    for run in runs.values():
        if run.info.status != "FINISHED":
            store.end(run.info.run_id, "FINISHED")
    if not keep:
        return "added"
    return "completed" if lacking else "already there"


def read_complete_artifact(folder: Path, name: str) -> Artifact:
    """Read the artifact of the ablation `name` without its weights, which must exist.

    Raises:
        UserError: a file is missing or damaged.
    """
    artifact = Artifact.read(folder, parse_task, name=name)
    for file in artifact.folder.digests if artifact.folder else ():
        if not (folder / file).exists():
            raise UserError(f"{folder / file}: no such file; `python -m pipeline train {name}` makes it")
    return artifact


def _shows_same_training(
    store: MlflowStore, run: Run, content: RunContent, score: str, digests: Mapping[str, str]
) -> bool:
    """Return whether the run shows this training: by its tag if it is complete, by its curve of the score otherwise."""
    if TRAINED_TAG in run.data.tags:
        return bool(run.data.tags[TRAINED_TAG] == digests[TRAINED_TAG])
    expected = dict(zip(content.curve["step"], content.curve[score], strict=True))
    return all(
        step in expected and math.isclose(value, expected[step], rel_tol=1e-5, abs_tol=1e-9)
        for step, value in store.curve(run.info.run_id, score).items()
    )


def _add_missing(store: MlflowStore, run: Run, content: RunContent, score: str, digests: Mapping[str, str]) -> None:
    """Add the missing points and metrics to the run, and then the digests of the files that it shows."""
    steps = list(store.curve(run.info.run_id, score))
    store.log_curve(run.info.run_id, content.curve[~content.curve["step"].isin(steps)])
    metrics = {key: value for key, value in content.metrics.items() if run.data.metrics.get(key) != value}
    notes = {"mlflow.note.content": content.note} if content.note else {}
    store.log(run.info.run_id, metrics=metrics, tags={**notes, **digests})


def _create_runs(
    store: MlflowStore, ablation: Ablation, digests: Mapping[str, str], extra_tags: Mapping[str, str]
) -> RunsBySeed:
    """Create an ablation's parent run and child runs, with everything that is known before training."""
    tags = {
        "mlflow.source.name": f"python -m pipeline train {ablation.name}",
        "result_digest": result_digest(ablation, digests),
        "ablation": ablation.name,
        "task": ablation.dataset,
        **switches.switch_tags(ablation),
        "order_blind": str(is_order_blind(ablation.model)).lower(),
        **extra_tags,
    }
    runs: RunsBySeed = {None: store.create(ablation.name, {**tags, "role": "ablation"})}
    for seed in ablation.training.seeds:
        child = {**tags, "role": "run", "seed": str(seed)}
        runs[seed] = store.create(f"seed-{seed} {ablation.name}", child, parent=runs[None].info.run_id)
    for key, run in runs.items():
        params = {} if key is None else {"seed": key}
        store.log(run.info.run_id, params=flat_settings(ablation) | params)
        store.log_dataset(run.info.run_id, ablation.dataset, ablation.task.train_size, digests)
    return runs


def flat_settings(ablation: Ablation) -> dict[str, Any]:
    """Return every setting of the ablation as `section.key` -> value."""
    sections = {name: content for name, content in ablation.resolved().items() if isinstance(content, dict)}
    return {f"{name}.{key}": value for name, content in sections.items() for key, value in content.items()}
