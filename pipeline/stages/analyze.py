"""Stage `analyze`: apply all measurements to every run of an ablation: before, during and after training."""

import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from pipeline import dataset, files
from pipeline.measurement.catalogue import measurements
from pipeline.measurement.common.tables import round_measured_values
from pipeline.measurement.registry import MeasurementInput, draw_random_tokens
from pipeline.params import Params
from pipeline.params.score import EXACT_MATCH
from pipeline.stages import ANALYSIS, DATA, MODELS
from pipeline.training.artifact import Artifact, read_artifact_trained_on
from pipeline.training.convergence import Convergence, find_steps_of_kept_weights
from pipeline.training.population import build_initial_model
from pipeline.transformer.model import Transformer

RANDOM_SEQUENCE_COUNT = 1000
"""Number of random token sequences that measurements use as inputs."""


class TrainingPoint(NamedTuple):
    """Point in the training of a run at which its model is measured; the fields are columns of every table."""

    seed: int
    step: int
    trained: int
    """1 if the measured weights are those that training kept, 0 if they are earlier ones."""


def run(params: Params, ablation_name: str) -> None:
    """Apply all measurements to an ablation and write `reports/analysis/<ablation>/<measurement>.csv`.

    The columns are `ablation, seed, step, trained` and then those of the measurement. Models whose weights are not
    finite are left out.

    Raises:
        UserError: there is no such ablation, or its dataset or artifact is missing, altered or of other settings.
        SymmetryError: a model is not as blind to order as its architecture predicts.
    """
    ablation = params.ablation(ablation_name)
    data = dataset.read(DATA / ablation.dataset, ablation.task)
    artifact = read_artifact_trained_on(MODELS / ablation_name, ablation, data)
    random_tokens = draw_random_tokens(RANDOM_SEQUENCE_COUNT, data.input_length, len(data.vocabulary))
    has_answers = ablation.task.score == EXACT_MATCH
    tables = defaultdict[str, list[pd.DataFrame]](list)
    for point, model in _load_models_along_training(artifact, data.transformer_arguments):
        if not all(weight.isfinite().all() for weight in model.parameters()):
            print(f"{ablation_name}: seed {point.seed} diverged, so there is nothing to measure", file=sys.stderr)
            continue
        measured = MeasurementInput(model.double(), artifact.ablation, data.examples["validation"], random_tokens)
        labels = {"ablation": ablation_name, **point._asdict()}
        for title, measurement in measurements().items():
            applies = has_answers or not measurement.needs_answers
            if applies and (measurement.includes_snapshots or point.trained or point.step == 0):
                table = round_measured_values(measurement.function(measured))
                tables[title].append(table.assign(**labels)[[*labels, *table.columns]])
    with files.replace_folder(ANALYSIS / ablation_name, subject=artifact.digest) as new:
        for title, parts in tables.items():
            files.write_csv(new / f"{title}.csv", pd.concat(parts, ignore_index=True))


def _load_models_along_training(
    artifact: Artifact, transformer_arguments: dict[str, Any]
) -> Iterator[tuple[TrainingPoint, Transformer]]:
    """Load the models of every seed in the order of training: initial, snapshots, trained."""
    trained_steps = find_steps_of_kept_weights(artifact.history, Convergence.for_ablation(artifact.ablation))
    for seed in artifact.weights:
        initial = build_initial_model(artifact.ablation.model, seed=seed, **transformer_arguments)
        yield TrainingPoint(seed, 0, 0), initial.eval()
        for step in sorted(step for snapshot_seed, step in artifact.snapshots if snapshot_seed == seed):
            yield TrainingPoint(seed, step, 0), artifact.load_model(seed, transformer_arguments, step=step)
        yield TrainingPoint(seed, trained_steps[seed], 1), artifact.load_model(seed, transformer_arguments)
