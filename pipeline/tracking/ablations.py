"""The runs of an ablation: a parent, and a child per seed.

`LiveRuns` draws curves while an ablation trains; `sync` makes the runs agree with what lies on the disk, as often
as one likes. Runs are found again by the ablation's identity, which is known before training and afterwards.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from pipeline import files, switches
from pipeline.measurement.order_blind import is_order_blind
from pipeline.params import Ablation, Tracking
from pipeline.tracking import BestEffort, Run, Store, connect
from pipeline.tracking.machine import is_gone, machine, user
from pipeline.tracking.trained import TrainedAblation, curves, read, rows
from pipeline.training.convergence import Convergence, History, mean_curve

TRAINED, EVALUATED = "trained", "evaluated"
"""Tags: the digest of the files that a run shows in full. Written last."""
Runs = dict[int | None, Run]
"""Seed -> its run; None -> the ablation's own."""


def result_digest(ablation: Ablation, digests: Mapping[str, str]) -> str:
    """What an ablation's runs are found by: the digest of all that determines its result."""
    # without defaults: a switch that is new, and off, makes no other ablation
    said = [
        part.model_dump(mode="json", exclude_defaults=True)
        for part in (ablation.task, ablation.model, ablation.training)
    ]
    return files.digest(json.dumps([ablation.name, ablation.dataset, said, dict(digests)], sort_keys=True).encode())


class LiveRuns(BestEffort):
    """The runs of an ablation while it trains. Use as a context; leaving it by an exception marks them killed or
    failed.

    Earlier runs of the same identity are deleted: the files that they showed are replaced.
    """

    def __init__(self, settings: Tracking, ablation: Ablation, digests: Mapping[str, str]) -> None:
        """`digests`: of the dataset's files."""
        self.settings, self.ablation, self.digests = settings, ablation, digests
        self.runs: Runs = {}
        self.history: History = []

    def __enter__(self) -> Self:
        self.started = time.monotonic()
        with self.attempt():
            self.store = connect(self.settings)
            end_killed(self.store)
            for old in self.store.find(result_digest(self.ablation, self.digests)):
                self.store.delete(old.id)
            self.runs = _created(self.store, self.ablation, self.digests, machine())
            self.store.watch(self.runs[None].id)
        return self

    def log_evaluation(self, evaluation: History) -> None:
        """Add one evaluation of the members still training to the curves, and the ablation's state to the parent's."""
        if self.store is None:
            return
        self.history += evaluation
        with self.attempt():
            shown = ("step", *curves(self.ablation))
            for row in evaluation:
                self.store.curve(self.runs[row["seed"]].id, [{name: row[name] for name in shown}])
            so_far = mean_curve(pd.DataFrame(self.history), Convergence.of(self.ablation))
            self.store.curve(self.runs[None].id, rows(so_far.tail(1)))

    def record(self, folder: Path) -> None:
        """Complete the runs from the files that training wrote."""
        if self.store is None:
            return
        with self.attempt():
            self.store.log(self.runs[None].id, metrics={"training_seconds": time.monotonic() - self.started})
            _synchronised(self.store, read(folder, self.ablation, None))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or self.store is None:
            return
        with self.attempt():
            for run in self.runs.values():
                self.store.end(run.id, "KILLED" if kind is KeyboardInterrupt else "FAILED")


def end_killed(store: Store) -> None:
    """Say of the runs of trainings that were killed from outside, on this machine, that they were: they could not."""
    for run in store.running():
        if is_gone(run.tags):
            store.end(run.id, "KILLED")


def record(settings: Tracking, ablation: Ablation, folder: Path, evaluation: Path) -> None:
    """`sync`, with a warning where it fails: for stages, which have their files written by then."""
    with BestEffort().attempt():
        sync(settings, ablation, folder, evaluation)


def sync(settings: Tracking, ablation: Ablation, folder: Path, evaluation: Path | None) -> str:
    """Make the runs of the trained ablation in `folder` agree with its files; what was done, in words.

    Raises:
        Unreachable: no back end answers, or it stopped to.
        UserError: the ablation's files are missing or damaged.
    """
    return _synchronised(connect(settings), read(folder, ablation, evaluation))


def _synchronised(store: Store, trained: TrainedAblation) -> str:
    runs, done = _existing(store, trained), "already there"
    if not runs:
        runs, done = _created(store, trained.ablation, trained.digests, {}), "added"
    for seed, run in runs.items():
        if _completed(store, trained, seed, run) and done != "added":
            done = "completed"
    return done


def _completed(store: Store, trained: TrainedAblation, seed: int | None, run: Run) -> bool:
    """Add to a run what it lacks of the files; whether there was anything."""
    lacks_training = run.tags.get(TRAINED) != trained.trained
    lacks_evaluation = trained.evaluation is not None and run.tags.get(EVALUATED) != trained.evaluated
    if lacks_training:
        shown = _points(store, trained.ablation, run)
        store.curve(run.id, [row for row in trained.curve(seed) if row["step"] not in shown])
        for file in trained.files(seed):
            store.artifact(run.id, file)
    if lacks_evaluation and trained.evaluation and seed is None:
        store.artifact(run.id, trained.evaluation)
    if lacks_training or lacks_evaluation:
        metrics = {key: value for key, value in trained.metrics(seed).items() if run.metrics.get(key) != value}
        marks = {TRAINED: trained.trained} | ({EVALUATED: trained.evaluated} if trained.evaluation else {})
        if seed is None:
            store.model(run.id, trained.ablation.name, trained.folder, trained.metrics(None))
        store.log(run.id, metrics=metrics, tags=trained.tags(seed) | marks)
    if run.status != "FINISHED":
        store.end(run.id, "FINISHED")
    return lacks_training or lacks_evaluation


def _existing(store: Store, trained: TrainedAblation) -> Runs:
    """The runs of the ablation. If they are not complete, or show another training's results, all are deleted."""
    found = store.find(result_digest(trained.ablation, trained.digests))
    runs: Runs = {int(run.tags["seed"]) if "seed" in run.tags else None: run for run in found}
    whole = len(runs) == len(found) and set(runs) == {None, *trained.ablation.training.seeds}
    if whole and all(_shows(store, trained, seed, run) for seed, run in runs.items()):
        return runs
    for run in found:
        store.delete(run.id)
    return {}


def _shows(store: Store, trained: TrainedAblation, seed: int | None, run: Run) -> bool:
    """Whether what the run shows, be it all or not, is what the files say."""
    if TRAINED in run.tags:
        return run.tags[TRAINED] == trained.trained
    score = Convergence.of(trained.ablation).column
    truth = {row["step"]: row[score] for row in trained.curve(seed)}
    return all(
        step in truth and math.isclose(value, truth[step], rel_tol=1e-5, abs_tol=1e-9)
        for step, value in _points(store, trained.ablation, run).items()
    )


def _points(store: Store, ablation: Ablation, run: Run) -> dict[int, float]:
    """The evaluations that the run shows, by the score of the ablation's task: what it is compared with the files
    by."""
    score = Convergence.of(ablation).column
    return store.points(run.id, score) if score in run.metrics else {}


def _created(store: Store, ablation: Ablation, digests: Mapping[str, str], extra: Mapping[str, str]) -> Runs:
    """A parent and its children, with everything that is known before training."""
    tags = {
        "user": user(),
        "source": f"python -m pipeline train {ablation.name}",
        "identity": result_digest(ablation, digests),
        "ablation": ablation.name,
        "task": ablation.dataset,
        **switches.tags(ablation),
        "order_blind": str(is_order_blind(ablation.model)).lower(),
        **extra,
    }
    parent = store.create(ablation.name, {**tags, "role": "ablation"})
    runs: Runs = {None: parent}
    for seed in ablation.training.seeds:
        own = {**tags, "role": "member", "seed": str(seed)}
        runs[seed] = store.create(f"seed-{seed} {ablation.name}", own, parent=parent.id)
    for member, run in runs.items():
        store.log(run.id, params=settings_of(ablation) | ({} if member is None else {"seed": member}))
        store.dataset(run.id, ablation.dataset, ablation.task.train_size, digests)
    return runs


def settings_of(ablation: Ablation) -> dict[str, Any]:
    """`section.key` -> value: all that the ablation is made of, as parameters of a run."""
    sections = {name: content for name, content in ablation.resolved().items() if isinstance(content, dict)}
    return {f"{name}.{key}": value for name, content in sections.items() for key, value in content.items()}
