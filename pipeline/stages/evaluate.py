"""Stage `evaluate`: the members as training left them, on the test split: their answers, or how well they foresee."""

from collections.abc import Callable

import pandas as pd
import torch

from pipeline import dataset, files, switches
from pipeline.dataset import Dataset
from pipeline.environment import limit_threads
from pipeline.measurement.common import scoring
from pipeline.params import Params, Task
from pipeline.params.score import BITS, EXACT_MATCH, Score
from pipeline.stages import DATA, EVALUATION, MODELS, TESTED
from pipeline.tracking.ablations import sync_or_warn
from pipeline.training.artifact import read_trained_on
from pipeline.training.convergence import Convergence, run_outcomes
from pipeline.transformer.model import Transformer


def exact_match(member: Transformer, data: Dataset, task: Task) -> dict[str, float]:
    """The answers that the member produces by greedy decoding, compared with what is right."""
    produced = scoring.greedy(member, data.examples["test"])
    return scoring.accuracy(produced, data.examples["test"], data.tables["test"], task.strata, task.answer_unit)


def bits_per_token(member: Transformer, data: Dataset, task: Task) -> dict[str, float]:
    """How well the member foresees what comes."""
    of_rows = scoring.bits_per_token(member, data.examples["test"])
    return {"test_bits": of_rows.mean().item(), "test_examples": len(of_rows)}


SCORES: dict[Score, Callable[[Transformer, Dataset, Task], dict[str, float]]] = {
    EXACT_MATCH: exact_match,
    BITS: bits_per_token,
}
"""What a task is scored by -> the columns of `runs.csv` that say how a member did."""


def run(params: Params, name: str) -> None:
    """Write `reports/evaluation/<ablation>/evaluation.csv`, a row per seed.

    Raises:
        UserError: no such ablation, or what it needs is missing, altered or made for something else.
    """
    asked = params.ablation(name)
    data = dataset.read(DATA / asked.dataset, asked.task)
    artifact = read_trained_on(MODELS / name, asked, data)
    ablation, task = artifact.ablation, asked.task
    learned = run_outcomes(artifact.history, Convergence.of(ablation)).set_index("seed")
    records = []
    for seed in artifact.weights:
        model = artifact.model(seed, data.inputs)
        with torch.inference_mode(), limit_threads(ablation.training.threads):
            scored = SCORES[ablation.task.score](model, data, task)
        records.append(
            {"ablation": name, "seed": seed, "task": ablation.dataset, **switches.columns(ablation)}
            | {"parameters": artifact.parameters}
            | learned.loc[[seed]].to_dict("records")[0]
            | scored
        )
    folder = EVALUATION / name
    with files.replacing_folder(folder, subject=artifact.digest) as new:
        files.write_csv(new / TESTED, pd.DataFrame(records))
    sync_or_warn(params.tracking, asked, MODELS / name, folder / TESTED)
