"""Write the runs of an ablation to MLflow: a parent run, and a child run per seed.

`LiveRuns` adds to the learning curves while an ablation trains; `sync_runs` makes the runs agree with the files
afterwards. Both find the runs by the tag `result_digest`, which can be computed before training. Runs whose results are
those in the experiment's files have the tag `current = true`, superseded ones `current = false`.
"""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from pipeline import files, switches
from pipeline.errors import UserError
from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.params import Ablation, Tracking
from pipeline.tasks.registry import parse_task
from pipeline.tracking.contents import build_curves, build_metrics, curve_metric
from pipeline.tracking.failures import BestEffortWriter
from pipeline.tracking.machine import has_exited, machine_tags
from pipeline.tracking.store import MlflowStore, Run, open_store
from pipeline.training.artifact import Artifact
from pipeline.training.convergence import Convergence, HistoryRows, compute_run_outcomes

TRAINED_TAG, EVALUATED_TAG, WEIGHTS_TAG = "trained", "evaluated", "weights"
"""Tags of a complete run in MLflow: the digests of the artifact and of the evaluation whose values the run shows."""
LAYOUT = 2
"""Version of the names of metrics and tags. Runs of earlier versions are not completed but superseded."""
DVC_EXPERIMENT_VARIABLE = "DVC_EXP_NAME"
"""Environment variable in which `dvc exp run` passes the name of its experiment, whose results are tried, not kept."""
RunsBySeed = dict[int | None, Run]
"""Runs of an ablation in MLflow: seed -> the run of that seed, None -> the parent run."""


def result_digest(ablation: Ablation, dataset_digests: Mapping[str, str]) -> str:
    """Return a digest of everything that determines the results of an ablation, the files of its dataset included."""
    # without defaults: a new switch that is off changes no digest
    sections = [
        section.model_dump(mode="json", exclude_defaults=True)
        for section in (ablation.task, ablation.model, ablation.training)
    ]
    return files.compute_digest_of_values([LAYOUT, ablation.name, ablation.dataset, sections, dict(dataset_digests)])


class LiveRuns(BestEffortWriter):
    """Context manager that writes the runs of an ablation to MLflow while the ablation trains.

    If an exception leaves the block, the runs are marked as killed or failed. Earlier runs with the same
    `result_digest` are deleted, because training replaces the files whose values they show.
    """

    def __init__(self, settings: Tracking, ablation: Ablation, dataset_digests: Mapping[str, str]) -> None:
        """Create the runs of `ablation`; `dataset_digests` holds the digest of each file of the dataset."""
        self.ablation, self.started = ablation, time.monotonic()
        self.history: HistoryRows = []
        with self.warn_on_failure():
            self.store = open_store(settings)
            mark_killed_runs(self.store)
            self.runs = _replace_runs(self.store, ablation, dataset_digests, machine_tags())
            self.store.monitor_machine(self.runs[None])

    def __enter__(self) -> Self:
        return self

    def log_evaluation(self, evaluation: HistoryRows) -> None:
        """Add an evaluation on the validation examples to the learning curves of the seeds and of the parent run.

        Seeds that have finished training are not in `evaluation`. The parent run shows the mean over seeds.
        """
        if self.store is None:
            return
        self.history += evaluation
        with self.warn_on_failure():
            for seed, curve in build_curves(self.ablation, pd.DataFrame(self.history)).items():
                self.store.log_curve(self.runs[seed], curve[curve["step"] == evaluation[0]["step"]])

    def add_final_results(self, folder: Path) -> None:
        """Add everything that is missing in the runs from the files that training wrote to `folder`."""
        if self.store is None:
            return
        with self.warn_on_failure():
            self.store.log(self.runs[None], metrics={"summary/training_seconds": time.monotonic() - self.started})
            sync_runs(self.store, self.ablation, folder)

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if error_type is None or self.store is None:
            return
        with self.warn_on_failure():
            for run in self.runs.values():
                self.store.end_run(run, "KILLED" if error_type is KeyboardInterrupt else "FAILED")


def mark_killed_runs(store: MlflowStore) -> None:
    """Mark as killed the runs that MLflow lists as running although their process on this machine has exited."""
    for run in store.find_runs("attributes.status = 'RUNNING'"):
        if has_exited(run.data.tags):
            store.end_run(run, "KILLED")


def sync_runs_or_warn(settings: Tracking, ablation: Ablation, folder: Path, evaluation: Path) -> None:
    """Make an ablation's runs in MLflow agree with the ablation's files, or print a warning if MLflow fails."""
    with BestEffortWriter().warn_on_failure():
        sync_runs(open_store(settings), ablation, folder, evaluation)


def sync_runs(store: MlflowStore, ablation: Ablation, folder: Path, evaluation: Path | None = None) -> str:
    """Make the runs of the trained ablation in `folder` agree with the ablation's files.

    Runs that show the results of another training, and incomplete sets of runs, are replaced; runs of the ablation with
    other settings are marked as superseded. If evaluation.csv at the path `evaluation` does not exist, or belongs to an
    earlier training, it is ignored.

    Returns:
        `added`, `completed` or `already there`.

    Raises:
        UserError: the ablation's files are missing or damaged.
    """
    artifact = Artifact.read(folder, parse_task, name=ablation.name)
    assert artifact.folder is not None
    for file in artifact.folder.digests:
        if not (folder / file).exists():
            raise UserError(f"{folder / file}: no such file; `python -m pipeline train {ablation.name}` makes it")
    ablation, rule = artifact.ablation, Convergence.for_ablation(artifact.ablation)  # as it was trained
    outcomes = compute_run_outcomes(artifact.history, rule)
    tags = {TRAINED_TAG: artifact.digest, WEIGHTS_TAG: _weights_digest(artifact.folder)}
    if not _is_tried():
        tags["current"] = "true"
    if evaluation and evaluation.exists():
        command = f"python -m pipeline evaluate {ablation.name}"
        evaluated = files.open_verified_folder(evaluation.parent, creating_command=command)
        if evaluated.subject == artifact.digest:
            tags[EVALUATED_TAG], outcomes = evaluated.digest, evaluated.read_csv(evaluation.name)
    curves, score = build_curves(ablation, artifact.history), curve_metric(rule.score_column)

    existing = _find_runs(store, ablation, artifact.dataset_digests)
    runs: RunsBySeed = {int(run.data.tags["seed"]) if "seed" in run.data.tags else None: run for run in existing}
    keep = len(runs) == len(existing) and set(runs) == set(curves)
    keep = keep and all(
        _shows_same_training(store, run, tags[WEIGHTS_TAG], curves[seed].set_index("step")[score])
        for seed, run in runs.items()
    )
    if not keep:
        runs = _replace_runs(store, ablation, artifact.dataset_digests)
    outdated = {seed: run for seed, run in runs.items() if not tags.items() <= run.data.tags.items()}
    if outdated:
        if keep:
            _supersede_other_runs(store, ablation, artifact.dataset_digests)
        metrics = build_metrics(ablation, outcomes)
    if None in outdated:
        store.log_model(runs[None], ablation.name, folder, metrics[None])
    is_current = not _is_tried() or runs[None].data.tags["current"] == "true"
    store.register_model(runs[None], ablation.name, is_current=is_current)
    for seed, run in outdated.items():
        curve, shown_steps = curves[seed], list(store.read_curve(run, score))
        store.log_curve(run, curve[~curve["step"].isin(shown_steps)])
        new = {name: value for name, value in metrics[seed].items() if run.data.metrics.get(name) != value}
        store.log(run, metrics=new, tags=tags)
    for run in runs.values():
        if run.info.status != "FINISHED":
            store.end_run(run, "FINISHED")
    if not keep:
        return "added"
    return "completed" if outdated else "already there"


def _weights_digest(folder: files.VerifiedFolder) -> str:
    """SHA-256 over the weights of an artifact; other than the artifact's digest, it does not depend on config.json."""
    digests = {name: digest for name, digest in folder.digests.items() if name.endswith(".safetensors")}
    return files.compute_digest_of_values(digests)


def _shows_same_training(store: MlflowStore, run: Run, weights_digest: str, scores: pd.Series) -> bool:
    """Return True if the run in MLflow shows the training that ended with the weights of this digest.

    A complete run has the digest as a tag; of an unfinished run the learning curve is compared with `scores`, by step.
    """
    if WEIGHTS_TAG in run.data.tags:
        return bool(run.data.tags[WEIGHTS_TAG] == weights_digest)
    shown = pd.Series(store.read_curve(run, str(scores.name)), dtype=float)
    return bool(np.isclose(shown, scores.reindex(shown.index), rtol=1e-5, atol=1e-9).all())


def _find_runs(store: MlflowStore, ablation: Ablation, dataset_digests: Mapping[str, str]) -> list[Run]:
    return store.find_runs(f"tags.result_digest = '{result_digest(ablation, dataset_digests)}'")


def _is_tried() -> bool:
    """Return True in an experiment of DVC, which must not supersede the results in the experiment's files."""
    return DVC_EXPERIMENT_VARIABLE in os.environ


def _supersede_other_runs(store: MlflowStore, ablation: Ablation, dataset_digests: Mapping[str, str]) -> None:
    """Mark the runs of the ablation with other settings or data as superseded, unless these are only tried."""
    if not _is_tried():
        digest = result_digest(ablation, dataset_digests)
        others = f"tags.ablation = '{ablation.name}' and tags.result_digest != '{digest}'"
        supersede_runs(store, store.find_runs(f"{others} and tags.current = 'true'"))


def supersede_runs(store: MlflowStore, runs: Iterable[Run]) -> None:
    """Mark runs as superseded: other results have taken their place in the experiment's files."""
    for run in runs:
        store.log(run, tags={"current": "false"})


def _replace_runs(
    store: MlflowStore, ablation: Ablation, dataset_digests: Mapping[str, str], extra_tags: Mapping[str, str] = {}
) -> RunsBySeed:
    """Create an ablation's parent run and child runs in MLflow, with all tags and parameters; delete earlier ones."""
    earlier = _find_runs(store, ablation, dataset_digests)
    for run in earlier:
        store.client.delete_run(run.info.run_id)
    is_current = not _is_tried() or any(run.data.tags["current"] == "true" for run in earlier)
    _supersede_other_runs(store, ablation, dataset_digests)
    tags = {
        "mlflow.source.name": f"python -m pipeline train {ablation.name}",
        "experiment": "/".join(filter(None, (store.experiment, os.environ.get(DVC_EXPERIMENT_VARIABLE)))),
        "current": str(is_current).lower(),
        "result_digest": result_digest(ablation, dataset_digests),
        "ablation": ablation.name,
        "task": ablation.dataset,
        **switches.switch_tags(ablation),
        "order_blind": str(is_order_blind(ablation.model)).lower(),
        **extra_tags,
    }
    parent = store.create_run(ablation.name, {**tags, "role": "ablation"})
    runs: RunsBySeed = {None: parent}
    for seed in ablation.training.seeds:
        runs[seed] = store.create_run(
            f"seed-{seed} {ablation.name}", {**tags, "role": "run", "seed": str(seed)}, parent
        )
    for key, run in runs.items():
        store.log(run, params=flatten_settings(ablation) | ({} if key is None else {"seed": key}))
        store.log_dataset(run, ablation.dataset, ablation.task.train_size, dataset_digests)
    return runs


def flatten_settings(ablation: Ablation) -> dict[str, Any]:
    """Return every setting of the ablation as `section.key` -> value, such as `model.layers` -> 2."""
    sections = {name: content for name, content in ablation.resolved_settings().items() if isinstance(content, dict)}
    return {f"{name}.{key}": value for name, content in sections.items() for key, value in content.items()}
