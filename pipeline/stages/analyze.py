"""Stage `analyze`: every measurement on every member, at initialisation, along training where weights were kept, and as
trained."""

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from pipeline import dataset, files
from pipeline.measurement.catalogue import measurements
from pipeline.measurement.common.tables import rounded
from pipeline.measurement.registry import MeasurementInput, draw_random_tokens
from pipeline.params import Params
from pipeline.params.score import EXACT_MATCH
from pipeline.stages import ANALYSIS, DATA, MODELS
from pipeline.training.artifact import Artifact, read_trained_on
from pipeline.training.convergence import Convergence, steps_of_kept_weights
from pipeline.training.population import initial_model
from pipeline.transformer.model import Transformer

RANDOM_ROWS = 1000


class TrainingPoint(NamedTuple):
    """A member at one moment of its training."""

    seed: int
    step: int
    trained: int
    """1: as training keeps it; 0: before, or on the way."""


def run(params: Params, name: str) -> None:
    """Write `reports/analysis/<ablation>/<measurement>.csv`: `ablation, seed, step, trained`, the measurement's keys,
    its values.

    Raises:
        UserError: no such ablation, or what it needs is missing, altered or made for something else.
        SymmetryError: a member is not as blind to order as its architecture says.
    """
    ablation = params.ablation(name)
    data = dataset.read(DATA / ablation.dataset, ablation.task)
    artifact = read_trained_on(MODELS / name, ablation, data)
    rows = data.examples["validation"]
    random = draw_random_tokens(RANDOM_ROWS, data.length, len(data.vocabulary))
    answered = ablation.task.score == EXACT_MATCH
    asked = {name: one for name, one in measurements().items() if answered or not one.counts_answers}
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in asked}
    for moment, model in _members(artifact, data.inputs):
        if not all(weight.isfinite().all() for weight in model.parameters()):
            print(f"{ablation.name}: seed {moment.seed} diverged, so there is nothing to measure", file=sys.stderr)
            continue
        subject = MeasurementInput(model.double(), artifact.ablation, rows, random)
        for name, one in asked.items():
            if one.along_training or moment.trained or not moment.step:
                table = rounded(one.function(subject))
                tables[name].append(_labelled(table, ablation.name, moment))
    with files.replacing_folder(ANALYSIS / ablation.name, subject=artifact.digest) as new:
        for name, of_members in tables.items():
            if of_members:
                files.write_csv(new / f"{name}.csv", pd.concat(of_members, ignore_index=True))


def _labelled(table: pd.DataFrame, name: str, moment: TrainingPoint) -> pd.DataFrame:
    """The table with the columns in front that say whose it is."""
    labels = {"ablation": name, **moment._asdict()}
    return table.assign(**labels)[[*labels, *table.columns]]


def _members(artifact: Artifact, inputs: dict[str, Any]) -> Iterator[tuple[TrainingPoint, Transformer]]:
    """Models of every seed in the order of training: initial, snapshots, trained."""
    trained_steps = steps_of_kept_weights(artifact.history, Convergence.of(artifact.ablation))
    for seed in artifact.weights:
        initial = initial_model(artifact.ablation.model, seed=seed, **inputs)
        yield TrainingPoint(seed, 0, 0), initial.eval()
        for step in sorted(step for snapshot_seed, step in artifact.snapshots if snapshot_seed == seed):
            yield TrainingPoint(seed, step, 0), artifact.model(seed, inputs, step=step)
        yield TrainingPoint(seed, trained_steps[seed], 1), artifact.model(seed, inputs)
