"""Stage `evaluate`: the members as their last step left them, on the test split, by greedy decoding."""

import pandas as pd
import torch

from pipeline import cells, dataset, files
from pipeline.measurement import accuracy
from pipeline.params import Params
from pipeline.stages import DATA, EVALUATION, MODELS, TESTED
from pipeline.tasks.catalogue import problems
from pipeline.tracking.cells import record
from pipeline.training import checkpoints
from pipeline.training.history import Convergence, outcomes
from pipeline.training.processor import threads

SCORES = {"exact_match": accuracy.score}
"""What a task is `scored_by` -> how what was produced is compared with what is right."""


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
            produced = accuracy.greedy(member, data.rows["test"])
        scored = SCORES[task.scored_by](produced, data.rows["test"], data.tables["test"], task.strata)
        records.append(
            {"ablation": ablation, "seed": seed, "task": cell.dataset, **cells.columns(cell)}
            | {"parameters": trained.parameters}
            | learned.loc[[seed]].to_dict("records")[0]
            | scored.columns(task.place)
        )
    folder = EVALUATION / ablation
    files.write_csv(folder / TESTED, pd.DataFrame(records))
    files.seal(folder, of=trained.seal)
    record(params.tracking, asked, MODELS / ablation, folder / TESTED)
