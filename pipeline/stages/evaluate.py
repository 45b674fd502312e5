"""Stage `evaluate`: score the trained models of an ablation on the test split."""

from collections.abc import Callable

import pandas as pd
import torch

from pipeline import dataset, files, switches
from pipeline.dataset import Dataset
from pipeline.environment import limit_threads
from pipeline.measurement.common import scoring
from pipeline.params import Params
from pipeline.params.score import BITS, EXACT_MATCH, Score
from pipeline.stages import DATA, EVALUATION, MODELS, TESTED
from pipeline.tracking.ablations import sync_runs_or_warn
from pipeline.training.artifact import read_artifact_trained_on
from pipeline.training.convergence import Convergence, compute_run_outcomes
from pipeline.transformer.model import Transformer


def score_answers(model: Transformer, data: Dataset) -> dict[str, float]:
    """Score the answers of a model to the test examples: exact match, overall, by stratum and by answer position."""
    produced = scoring.decode_greedily(model, data.examples["test"])
    task = data.task
    return scoring.accuracy_columns(produced, data.examples["test"], data.tables["test"], task.strata, task.answer_unit)


def score_bits(model: Transformer, data: Dataset) -> dict[str, float]:
    """Compute the mean cross-entropy of a model on the test examples, in bits per token."""
    bits = scoring.bits_per_token(model, data.examples["test"])
    return {"test_bits": bits.mean().item(), "test_examples": len(bits)}


SCORE_FUNCTIONS: dict[Score, Callable[[Transformer, Dataset], dict[str, float]]] = {
    EXACT_MATCH: score_answers,
    BITS: score_bits,
}
"""Type of score -> function that computes the test scores of a model, which are columns of `runs.csv`."""


def run(params: Params, ablation_name: str) -> None:
    """Score all seeds of an ablation and write `reports/evaluation/<ablation>/evaluation.csv`, one row per seed.

    Raises:
        UserError: there is no such ablation, or its dataset or artifact is missing, altered or of other settings.
    """
    ablation = params.ablation(ablation_name)
    data = dataset.read(DATA / ablation.dataset, ablation.task)
    artifact = read_artifact_trained_on(MODELS / ablation_name, ablation, data)
    trained = artifact.ablation
    outcomes = compute_run_outcomes(artifact.history, Convergence.for_ablation(trained)).set_index("seed")
    rows = []
    for seed in artifact.weights:
        model = artifact.load_model(seed, data.transformer_arguments)
        with torch.inference_mode(), limit_threads(trained.training.threads):
            scores = SCORE_FUNCTIONS[trained.task.score](model, data)
        rows.append(
            {"ablation": ablation_name, "seed": seed, "task": trained.dataset, **switches.switch_columns(trained)}
            | {"parameters": artifact.parameter_count}
            | outcomes.loc[[seed]].to_dict("records")[0]
            | scores
        )
    folder = EVALUATION / ablation_name
    with files.replace_folder(folder, subject=artifact.digest) as new:
        files.write_csv(new / TESTED, pd.DataFrame(rows))
    sync_runs_or_warn(params.tracking, ablation, MODELS / ablation_name, folder / TESTED)
