"""Stage `evaluate`: the members as training left them, on the test split: their answers, or how well they foresee."""

from collections.abc import Callable

import pandas as pd
import torch

from pipeline import cells, dataset, files
from pipeline.dataset import Dataset
from pipeline.measurement import accuracy
from pipeline.measurement.bits import bits
from pipeline.params import Params
from pipeline.params.task import Scored
from pipeline.stages import DATA, EVALUATION, MODELS, TESTED
from pipeline.tasks import Problems
from pipeline.tasks.catalogue import problems
from pipeline.tracking.cells import record
from pipeline.training import checkpoints
from pipeline.training.history import Convergence, outcomes
from pipeline.training.processor import threads
from pipeline.transformer.model import Transformer


def exact_match(member: Transformer, data: Dataset, task: Problems) -> dict[str, float]:
    """The answers that the member produces by greedy decoding, compared with what is right."""
    produced = accuracy.greedy(member, data.rows["test"])
    scored = accuracy.score(produced, data.rows["test"], data.tables["test"], task.strata)
    return scored.columns(task.place)


def bits_per_token(member: Transformer, data: Dataset, task: Problems) -> dict[str, float]:
    """How well the member foresees what comes."""
    of_rows = bits(member, data.rows["test"])
    return {"test_bits": of_rows.mean().item(), "test_examples": len(of_rows)}


SCORES: dict[Scored, Callable[[Transformer, Dataset, Problems], dict[str, float]]] = {
    "exact_match": exact_match,
    "bits": bits_per_token,
}
"""What a task is scored by -> the columns of `runs.csv` that say how a member did."""


def run(params: Params, ablation: str) -> None:
    """Write `reports/evaluation/<ablation>/evaluation.csv`, a row per seed.

    Raises:
        Refused: no such ablation, or what it needs is missing, altered or made for something else.
    """
    asked = params.cell(ablation)
    data = dataset.read(DATA / asked.dataset, asked.task)
    trained = checkpoints.read(MODELS / ablation, asked, data)
    cell, task = trained.cell, problems(asked.task)
    learned = outcomes(trained.history, Convergence.of(cell)).set_index("seed")
    records = []
    for seed, member in trained.members.items():
        with torch.inference_mode(), threads(cell.training.threads):
            scored = SCORES[cell.task.scored_by](member, data, task)
        records.append(
            {"ablation": ablation, "seed": seed, "task": cell.dataset, **cells.columns(cell)}
            | {"parameters": trained.parameters}
            | learned.loc[[seed]].to_dict("records")[0]
            | scored
        )
    folder = EVALUATION / ablation
    with files.sealing(folder, of=trained.seal) as new:
        files.write_csv(new / TESTED, pd.DataFrame(records))
    record(params.tracking, asked, MODELS / ablation, folder / TESTED)
