"""Stage `evaluate`: the members as their last step left them, on the test split, by greedy decoding."""

import pandas as pd
import torch

from pipeline import files, tracking
from pipeline.measurement import accuracy
from pipeline.params import Model, Params
from pipeline.stages import DATA, EVALUATION, MODELS
from pipeline.tasks import dataset
from pipeline.training import checkpoints
from pipeline.training.history import outcomes


def run(params: Params, ablation: str) -> None:
    """Write `reports/evaluation/<ablation>.csv`, a row per seed.

    Raises:
        Refused: no such ablation, or what it needs is missing, altered or made for something else.
    """
    data = dataset.read(DATA / params.task.name, params.task)
    trained = checkpoints.read(MODELS / ablation, data)
    learned = outcomes(trained.history, trained.cell.training.converged_at).set_index("seed")
    rows, table = data.rows["test"], data.tables["test"]
    records = []
    for seed, member in trained.members.items():
        with torch.inference_mode():
            produced = accuracy.greedy(member, rows)
        scored = accuracy.score(produced, rows, table["carries"].to_numpy(), params.task.digits)
        records.append(
            {"ablation": ablation, "seed": seed, **described(trained.cell.model)}
            | {"optimizer": trained.cell.training.optimizer, "parameters": trained.parameters}
            | learned.loc[[seed]].to_dict("records")[0]
            | scored.columns()
        )
    path = EVALUATION / f"{ablation}.csv"
    files.write_csv(path, pd.DataFrame(records))
    tracking.record(params.tracking, MODELS / ablation, path)


def described(model: Model) -> dict[str, object]:
    """The switches of a cell as columns."""
    return {
        "positional": model.positional,
        "positional_every_layer": int(model.positional_every_layer),
        "attention": model.attention,
        "layers": model.layers,
        "heads": model.heads,
        "width": model.width,
        "residual_free_attention": " ".join(map(str, model.residual_free.attention)),
        "residual_free_mlp": " ".join(map(str, model.residual_free.mlp)),
        "residual_free_initialisation": model.residual_free_initialisation,
    }
