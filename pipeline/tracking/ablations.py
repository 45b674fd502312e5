"""Write the runs of an ablation to MLflow: a parent run, and a child run per seed.

`LiveRuns` adds to the learning curves while an ablation trains; `sync_runs` makes the runs agree with the files
afterwards. Both find the runs by the tag `result_digest`, which can be computed before training.
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
from pipeline.tracking.contents import RunContent, build_run_contents, curve_columns
from pipeline.tracking.failures import BestEffortWriter
from pipeline.tracking.machine import has_exited, machine_tags
from pipeline.tracking.store import MlflowStore, Run, open_store
from pipeline.training.artifact import Artifact
from pipeline.training.convergence import Convergence, HistoryRows, compute_mean_learning_curve

TRAINED_TAG, EVALUATED_TAG = "trained", "evaluated"
"""Tags of a complete run in MLflow: the digests of the artifact and of the evaluation whose values the run shows."""
RunsBySeed = dict[int | None, Run]
"""Runs of an ablation in MLflow: seed -> the run of that seed, None -> the parent run."""


def result_digest(ablation: Ablation, dataset_digests: Mapping[str, str]) -> str:
    """Return a digest of everything that determines the results of an ablation.

    Args:
        ablation: settings of the ablation.
        dataset_digests: digest of each file of the dataset.
    """
    # without defaults: a new switch that is off changes no digest
    sections = [
        section.model_dump(mode="json", exclude_defaults=True)
        for section in (ablation.task, ablation.model, ablation.training)
    ]
    content = [ablation.name, ablation.dataset, sections, dict(dataset_digests)]
    return files.compute_digest_of_values(content)


class LiveRuns(BestEffortWriter):
    """Context manager that writes the runs of an ablation to MLflow while the ablation trains.

    If an exception leaves the block, the runs are marked as killed or failed. Earlier runs with the same
    `result_digest` are deleted, because training replaces the files whose values they show.
    """

    def __init__(self, settings: Tracking, ablation: Ablation, dataset_digests: Mapping[str, str]) -> None:
        """Prepare the runs of `ablation`; `dataset_digests` holds the digest of each file of the dataset."""
        self.settings, self.ablation, self.dataset_digests = settings, ablation, dataset_digests
        self.runs: RunsBySeed = {}
        self.history: HistoryRows = []

    def __enter__(self) -> Self:
        self.started = time.monotonic()
        with self.warn_on_failure():
            self.store = open_store(self.settings)
            mark_killed_runs(self.store)
            for run in self.store.find_runs("result_digest", result_digest(self.ablation, self.dataset_digests)):
                self.store.delete_run(run.info.run_id)
            self.runs = _create_runs(self.store, self.ablation, self.dataset_digests, machine_tags())
            self.store.monitor_machine(self.runs[None].info.run_id)
        return self

    def log_evaluation(self, evaluation: HistoryRows) -> None:
        """Add an evaluation on the validation examples to the learning curves of the seeds and of the parent run.

        Seeds that have finished training are not in `evaluation`. The parent run shows the mean over seeds.
        """
        if self.store is None:
            return
        self.history += evaluation
        with self.warn_on_failure():
            for row in evaluation:
                curve = pd.DataFrame([row])[["step", *curve_columns(self.ablation)]]
                self.store.log_curve(self.runs[row["seed"]].info.run_id, curve)
            mean = compute_mean_learning_curve(pd.DataFrame(self.history), Convergence.for_ablation(self.ablation))
            self.store.log_curve(self.runs[None].info.run_id, mean.tail(1))

    def add_final_results(self, folder: Path) -> None:
        """Add everything that is missing in the runs from the files that training wrote to `folder`."""
        if self.store is None:
            return
        with self.warn_on_failure():
            seconds = time.monotonic() - self.started
            self.store.log(self.runs[None].info.run_id, metrics={"training_seconds": seconds})
            sync_runs(self.store, self.ablation, folder, None)

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error_type is None or self.store is None:
            return
        with self.warn_on_failure():
            for run in self.runs.values():
                self.store.end_run(run.info.run_id, "KILLED" if error_type is KeyboardInterrupt else "FAILED")


def mark_killed_runs(store: MlflowStore) -> None:
    """Mark as killed the runs that MLflow lists as running although their process on this machine has exited."""
    for run in store.find_unfinished_runs():
        if has_exited(run.data.tags):
            store.end_run(run.info.run_id, "KILLED")


def sync_runs_or_warn(settings: Tracking, ablation: Ablation, folder: Path, evaluation: Path) -> None:
    """Make an ablation's runs in MLflow agree with the ablation's files, or print a warning if MLflow fails.

    Args:
        settings: address of the MLflow store, and name of the experiment.
        ablation: settings of the ablation.
        folder: folder with the trained ablation.
        evaluation: path of evaluation.csv.
    """
    with BestEffortWriter().warn_on_failure():
        sync_runs(open_store(settings), ablation, folder, evaluation)


def sync_runs(store: MlflowStore, ablation: Ablation, folder: Path, evaluation: Path | None) -> str:
    """Make the runs of the trained ablation in `folder` agree with the ablation's files.

    Runs that show the results of another training, and incomplete sets of runs, are replaced. An evaluation file that
    does not exist, or belongs to an earlier training, is ignored.

    Returns:
        `added`, `completed` or `already there`.

    Raises:
        UserError: the ablation's files are missing or damaged.
    """
    artifact = read_complete_artifact(folder, ablation.name)
    ablation, score = artifact.ablation, Convergence.for_ablation(artifact.ablation).score_column
    digests, table = {TRAINED_TAG: artifact.digest}, None
    if evaluation and evaluation.exists():
        evaluated = files.open_verified_folder(
            evaluation.parent, creating_command=f"python -m pipeline evaluate {ablation.name}"
        )
        if evaluated.subject == artifact.digest:
            digests[EVALUATED_TAG], table = evaluated.digest, evaluated.read_csv(evaluation.name)
    contents = build_run_contents(artifact, table)
    existing = store.find_runs("result_digest", result_digest(ablation, artifact.dataset_digests))
    runs: RunsBySeed = {int(run.data.tags["seed"]) if "seed" in run.data.tags else None: run for run in existing}
    keep = len(runs) == len(existing) and set(runs) == set(contents)
    keep = keep and all(_shows_same_training(store, run, contents[seed], score, digests) for seed, run in runs.items())
    if not keep:
        for run in existing:
            store.delete_run(run.info.run_id)
        runs = _create_runs(store, ablation, artifact.dataset_digests, {})
    lacking = {seed: run for seed, run in runs.items() if not digests.items() <= run.data.tags.items()}
    if None in lacking:
        store.log_model(runs[None].info.run_id, ablation.name, folder, contents[None].metrics)
    for seed, run in lacking.items():
        _add_missing_values(store, run, contents[seed], score, digests)
    for run in runs.values():
        if run.info.status != "FINISHED":
            store.end_run(run.info.run_id, "FINISHED")
    if not keep:
        return "added"
    return "completed" if lacking else "already there"


def read_complete_artifact(folder: Path, name: str) -> Artifact:
    """Read the trained ablation `name` from `folder` without loading its weights, but check that their files exist.

    Raises:
        UserError: a file is missing or damaged.
    """
    artifact = Artifact.read(folder, parse_task, name=name)
    for file in artifact.folder.digests if artifact.folder else ():
        if not (folder / file).exists():
            raise UserError(f"{folder / file}: no such file; `python -m pipeline train {name}` makes it")
    return artifact


def _shows_same_training(
    store: MlflowStore, run: Run, content: RunContent, score_column: str, digest_tags: Mapping[str, str]
) -> bool:
    """Return True if the run in MLflow shows the training with the digests in `digest_tags`.

    A complete run has the digest as a tag; of an unfinished run the learning curve is compared.
    """
    if TRAINED_TAG in run.data.tags:
        return bool(run.data.tags[TRAINED_TAG] == digest_tags[TRAINED_TAG])
    expected = dict(zip(content.curve["step"], content.curve[score_column], strict=True))
    return all(
        step in expected and math.isclose(value, expected[step], rel_tol=1e-5, abs_tol=1e-9)
        for step, value in store.read_curve(run.info.run_id, score_column).items()
    )


def _add_missing_values(
    store: MlflowStore, run: Run, content: RunContent, score_column: str, digest_tags: Mapping[str, str]
) -> None:
    """Add the missing curve points and metrics to the run, and then the digests of the files that hold them."""
    steps = list(store.read_curve(run.info.run_id, score_column))
    store.log_curve(run.info.run_id, content.curve[~content.curve["step"].isin(steps)])
    metrics = {key: value for key, value in content.metrics.items() if run.data.metrics.get(key) != value}
    notes = {"mlflow.note.content": content.note} if content.note else {}
    store.log(run.info.run_id, metrics=metrics, tags={**notes, **digest_tags})


def _create_runs(
    store: MlflowStore, ablation: Ablation, dataset_digests: Mapping[str, str], extra_tags: Mapping[str, str]
) -> RunsBySeed:
    """Create an ablation's parent run and child runs in MLflow, with all tags and parameters."""
    tags = {
        "mlflow.source.name": f"python -m pipeline train {ablation.name}",
        "result_digest": result_digest(ablation, dataset_digests),
        "ablation": ablation.name,
        "task": ablation.dataset,
        **switches.switch_tags(ablation),
        "order_blind": str(is_order_blind(ablation.model)).lower(),
        **extra_tags,
    }
    runs: RunsBySeed = {None: store.create_run(ablation.name, {**tags, "role": "ablation"})}
    for seed in ablation.training.seeds:
        child = {**tags, "role": "run", "seed": str(seed)}
        runs[seed] = store.create_run(f"seed-{seed} {ablation.name}", child, parent_id=runs[None].info.run_id)
    for key, run in runs.items():
        params = {} if key is None else {"seed": key}
        store.log(run.info.run_id, params=flatten_settings(ablation) | params)
        store.log_dataset(run.info.run_id, ablation.dataset, ablation.task.train_size, dataset_digests)
    return runs


def flatten_settings(ablation: Ablation) -> dict[str, Any]:
    """Return every setting of the ablation as `section.key` -> value, such as `model.layers` -> 2."""
    sections = {name: content for name, content in ablation.resolved_settings().items() if isinstance(content, dict)}
    return {f"{name}.{key}": value for name, content in sections.items() for key, value in content.items()}
