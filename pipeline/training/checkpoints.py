"""A trained cell on disk: weights per seed, the history, and `config.json`, which says everything needed to rebuild
the models and which bytes the weights must be. No pickle anywhere."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pipeline import files
from pipeline.params import Cell, Model, Training, checked
from pipeline.refusal import Refused
from pipeline.tasks.dataset import Dataset
from pipeline.training.history import COLUMNS, History
from pipeline.transformer.model import Transformer


@dataclass(frozen=True)
class Trained:
    """What training a cell gives."""

    weights: dict[int, dict[str, Tensor]]
    """Seed -> weights at the member's last step."""
    history: History
    parameters: int
    """Trained numbers of one member."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained cell, read back."""

    cell: Cell
    parameters: int
    """Trained numbers of one member."""
    history: pd.DataFrame
    members: dict[int, Transformer]
    """Seed -> the model, in evaluation mode, on the CPU."""


def write(folder: Path, cell: Cell, dataset: Dataset, trained: Trained) -> None:
    """Write `trained` as the content of `folder`; `config.json` last, so that it is there only when all is."""
    shutil.rmtree(folder, ignore_errors=True)
    digests = {}
    for seed, weights in trained.weights.items():
        content = safetensors.torch.save(weights)
        files.write_bytes(folder / f"seed-{seed}.safetensors", content)
        digests[f"seed-{seed}.safetensors"] = files.digest(content)
    files.write_csv(folder / "history.csv", pd.DataFrame(trained.history, columns=list(COLUMNS)))
    config = {
        "ablation": cell.name,
        "task": dataset.task.model_dump(mode="json"),
        "model": cell.model.model_dump(mode="json"),
        "training": cell.training.model_dump(mode="json"),
        "vocabulary": dataset.vocabulary,
        "length": dataset.rows["train"].tokens.shape[1] - 1,
        "parameters": trained.parameters,
        "dataset": dataset.digests,
        "weights": digests,
    }
    files.write_json(folder / "config.json", config)


def read(folder: Path, dataset: Dataset) -> Checkpoint:
    """Read a trained cell and check it: it must be whole, unaltered, and trained on `dataset`.

    Raises:
        Refused: something is missing, truncated or altered, or the dataset is another.
    """
    made_by = f"python -m pipeline train {folder.name}"
    config = files.read_json(folder / "config.json", made_by=made_by)
    where = str(folder / "config.json")
    try:
        model = checked(Model, config["model"], f"{where}: model")
        training = checked(Training, config["training"], f"{where}: training")
        if config["dataset"] != dataset.digests:
            raise Refused(f"{where}: trained on another dataset than data/ holds; run `{made_by}` again")
        members = {seed: _member(folder, config, model, seed, made_by=made_by) for seed in training.seeds}
        parameters = int(config["parameters"])
    except KeyError as error:
        raise Refused(f"{where}: damaged (no {error}); make it again with `{made_by}`") from None
    history = files.read_csv(folder / "history.csv", made_by=made_by)
    return Checkpoint(Cell(name=folder.name, model=model, training=training), parameters, history, members)


def _member(folder: Path, config: dict[str, Any], model: Model, seed: int, *, made_by: str) -> Transformer:
    name = f"seed-{seed}.safetensors"
    content = files.verified(folder / name, config["weights"][name], made_by=made_by)
    transformer = Transformer(model, vocabulary=len(config["vocabulary"]), length=config["length"])
    try:
        weights: dict[str, Tensor] = safetensors.torch.load(content)
        transformer.load_state_dict(weights)
    except (SafetensorError, RuntimeError):
        raise Refused(f"{folder / name}: does not fit config.json; make it again with `{made_by}`") from None
    return transformer.eval()
