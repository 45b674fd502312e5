"""Keep trained ablations whose code has changed without any effect on training.

A new positional encoding, task or optimizer changes code that every training runs, so DVC regards all of them as stale.
For each kind of ablation, one is trained for a few steps by the new code. If that gives the stored history, all
trainings of this kind are kept.
"""

import sys
from collections.abc import Hashable
from itertools import groupby

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LambdaCallback

from pipeline import dataset, files
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.params import Ablation, Params
from pipeline.repro import dvc_stages
from pipeline.stages import DATA, MODELS
from pipeline.training.artifact import Artifact, read_artifact_trained_on
from pipeline.training.fit import fit

CHECKED_STEPS = 50
"""Least number of steps that are trained anew; the next evaluation is the last one that is compared."""


def keep_unaffected_trainings(params: Params) -> None:
    """Record in DVC the stale trainings of which only the code has changed, if the new code trains as the old one did.

    What was kept, and what was not, is printed to stderr.
    """
    stale = dvc_stages.list_stale(f"train@{name}" for name in params.ablations)
    dvc_stages.restore_missing_outputs(stale)
    names = [stage_name.removeprefix("train@") for stage_name in stale]
    candidates = {name: trained for name in names if (trained := _read(params, name))}
    by_kind = sorted(candidates, key=lambda name: repr(kind_of_training(params.ablation(name))))
    if candidates:
        print(f"checking {len(candidates)} trainings, one of each kind for {CHECKED_STEPS} steps", file=sys.stderr)
    for _, group in groupby(by_kind, lambda name: kind_of_training(params.ablation(name))):
        names = list(group)
        first = min(names, key=lambda name: params.ablation(name).model.layers)
        if trains_as_before(*candidates[first]):
            for name in names:  # so that settings which the code did not have are in its config, as after a training
                candidates[name][0].write(MODELS / name)
            changed = dvc_stages.save_outputs([f"train@{name}" for name in names])
            outcome = f"changed while it was checked: {', '.join(changed)}" if changed else "kept"
        else:
            outcome = "must be trained again: the new code gives another history"
        print(f"{', '.join(names)}: {outcome} (checked: {first})", file=sys.stderr)


def _read(params: Params, name: str) -> tuple[Artifact, Dataset] | None:
    """Return the artifact and dataset of an ablation, or None if they do not belong to its present settings."""
    ablation = params.ablation(name)
    try:
        data = dataset.read(DATA / ablation.dataset, ablation.task)
        artifact = read_artifact_trained_on(MODELS / name, ablation, data)
    except UserError:
        return None
    return (artifact, data) if artifact.ablation == ablation else None


def kind_of_training(ablation: Ablation) -> Hashable:
    """Return what decides which code a training runs: task, encoding, mask, residual connections and optimizer."""
    model, training = ablation.model, ablation.training
    is_final = model.residual_fade_steps, model.positional_until
    lacks = bool(model.residual_free.attention), bool(model.residual_free.mlp)
    return (
        *(ablation.dataset, model.positional, model.attention, *lacks, model.residual_substitute, *is_final),
        *(training.optimizer, training.schedule, training.average > 0, training.loss_on, training.precision),
    )


def trains_as_before(artifact: Artifact, data: Dataset) -> bool:
    """Train an ablation for a few steps, and return True if its history equals the artifact's, to seven digits."""
    interval = artifact.ablation.training.evaluate_every
    last = -(-CHECKED_STEPS // interval) * interval

    def stop(trainer: Trainer, *_: object) -> None:  # so that nothing else, such as the schedule, differs
        if trainer.global_step >= last:
            trainer.should_stop = True

    history = fit(artifact.ablation, data, callbacks=[LambdaCallback(on_train_batch_end=stop)]).history
    before = artifact.history[artifact.history["step"] <= last]
    return files.format_csv(history) == files.format_csv(before)
