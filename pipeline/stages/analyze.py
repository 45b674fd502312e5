"""Stage `analyze`: apply all measurements to every run of an ablation: before and after training."""

import sys
from collections import defaultdict
from collections.abc import Iterator

import pandas as pd

from pipeline import dataset, files
from pipeline.measurement.catalogue import measurements
from pipeline.measurement.registry import MeasurementInput, round_measured_values
from pipeline.params import Params
from pipeline.params.score import EXACT_MATCH
from pipeline.stages import ANALYSIS, DATA, MODELS
from pipeline.training.artifact import Artifact, read_artifact_trained_on
from pipeline.training.population import build_initial_model
from pipeline.transformer.model import Transformer


def run(params: Params, ablation_name: str) -> None:
    """Apply all measurements to an ablation and write `reports/analysis/<ablation>/<measurement>.csv`.

    The columns are `ablation, seed, trained` and then those of the measurement; `trained` is 1 if the measured weights
    are those that training kept, 0 if they are the initial ones. Models whose weights are not finite are left out.

    Raises:
        UserError: there is no such ablation, or its dataset or artifact is missing, altered or of other settings.
        RunError: a model is not as blind to order as its architecture predicts.
    """
    ablation = params.ablation(ablation_name)
    data = dataset.read(DATA / ablation.dataset, ablation.task)
    artifact = read_artifact_trained_on(MODELS / ablation_name, ablation, data)
    tables = defaultdict[str, dict[tuple[str, int, int], pd.DataFrame]](dict)
    for seed, trained, model in _load_models(artifact, data):
        if not all(weight.isfinite().all() for weight in model.parameters()):
            print(f"{ablation_name}: seed {seed} diverged, so there is nothing to measure", file=sys.stderr)
            continue
        inputs = MeasurementInput(model.double(), artifact.ablation, data.examples["validation"])
        for name, measurement in measurements().items():
            applies = ablation.task.score == EXACT_MATCH or not measurement.needs_answers
            if applies and (trained or not measurement.trained_only):
                tables[name][ablation_name, seed, trained] = measurement(inputs)
    labels = ["ablation", "seed", "trained"]
    with files.replace_folder(ANALYSIS / ablation_name, subject=artifact.digest) as new:
        for name, parts in tables.items():
            table = pd.concat(parts, names=labels).reset_index(labels)
            files.write_csv(new / f"{name}.csv", round_measured_values(table))


def _load_models(artifact: Artifact, data: dataset.Dataset) -> Iterator[tuple[int, int, Transformer]]:
    """Load the initial and the trained model of every seed, each after its `seed`, and 1 if it is trained."""
    arguments = data.transformer_arguments
    for seed in artifact.weights:
        yield seed, 0, build_initial_model(artifact.ablation.model, seed=seed, **arguments).eval()
        yield seed, 1, artifact.load_model(seed, arguments)
