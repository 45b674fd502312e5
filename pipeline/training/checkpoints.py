"""A trained cell on disk: weights per seed, the history, and `config.json`, which says everything needed to rebuild
the models and which bytes the weights must be. No pickle anywhere."""

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pipeline import files
from pipeline.dataset import Dataset
from pipeline.params import Cell, Model, Training, checked
from pipeline.refusal import Refused
from pipeline.training.history import COLUMNS, History
from pipeline.transformer.model import Transformer

SNAPSHOTS = "snapshots"
"""The folder, inside a cell's, of the weights along training."""


@dataclass(frozen=True)
class Trained:
    """What training a cell gives."""

    weights: dict[int, dict[str, Tensor]]
    """Seed -> weights at the member's last step."""
    history: History
    parameters: int
    """Trained numbers of one member."""
    snapshots: dict[tuple[int, int], dict[str, Tensor]]
    """(Seed, step) -> weights along the way, in bfloat16."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained cell, read back."""

    cell: Cell
    parameters: int
    """Trained numbers of one member."""
    history: pd.DataFrame
    members: dict[int, Transformer]
    """Seed -> the model, in evaluation mode, on the CPU."""
    snapshots: dict[tuple[int, int], Transformer]
    """(Seed, step) -> the model along the way, its weights rounded to bfloat16; empty unless asked for."""


def write(folder: Path, cell: Cell, dataset: Dataset, trained: Trained) -> None:
    """Write `trained` as the content of `folder`; `config.json` last, so that it is there only when all is."""
    shutil.rmtree(folder, ignore_errors=True)
    digests = _save(folder, {f"seed-{seed}": weights for seed, weights in trained.weights.items()})
    snapshots = {f"seed-{seed}-step-{step}": weights for (seed, step), weights in trained.snapshots.items()}
    files.write_csv(folder / "history.csv", pd.DataFrame(trained.history, columns=list(COLUMNS)))
    config = {
        "ablation": cell.name,
        "task": dataset.task.model_dump(mode="json"),
        "model": cell.model.model_dump(mode="json"),
        "training": cell.training.model_dump(mode="json"),
        "vocabulary": dataset.vocabulary,
        "length": dataset.length,
        "parameters": trained.parameters,
        "dataset": dataset.digests,
        "weights": digests,
        "snapshots": _save(folder / SNAPSHOTS, snapshots),
    }
    files.write_json(folder / "config.json", config)


def _save(folder: Path, weights: dict[str, dict[str, Tensor]]) -> dict[str, str]:
    """Write each to a file of its name; file name -> digest."""
    digests = {}
    for name, tensors in weights.items():
        content = safetensors.torch.save(tensors)
        files.write_bytes(folder / f"{name}.safetensors", content)
        digests[f"{name}.safetensors"] = files.digest(content)
    return digests


def read(folder: Path, cell: Cell, dataset: Dataset, *, snapshots: bool = False) -> Checkpoint:
    """Read what `cell` was trained to and check it: it must be whole, unaltered, and trained on `dataset`. How it was
    trained is what its files say. `snapshots`: those too.

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
        build = partial(member, model=model, inputs=dataset.inputs, made_by=made_by)
        members = {
            seed: build(folder / name, config["weights"][name])
            for seed in training.seeds
            for name in [f"seed-{seed}.safetensors"]
        }
        along = {
            _seed_and_step(name): build(folder / SNAPSHOTS / name, digest)
            for name, digest in (config["snapshots"].items() if snapshots else ())
        }
        parameters = int(config["parameters"])
    except KeyError as error:
        raise Refused(f"{where}: damaged (no {error}); make it again with `{made_by}`") from None
    history = files.read_csv(folder / "history.csv", made_by=made_by)
    trained = cell.model_copy(update={"model": model, "training": training})
    return Checkpoint(trained, parameters, history, members, along)


def _seed_and_step(name: str) -> tuple[int, int]:
    _, seed, _, step = name.removesuffix(".safetensors").split("-")
    return int(seed), int(step)


def member(path: Path, digest: str, *, model: Model, inputs: dict[str, Any], made_by: str) -> Transformer:
    """One model of a cell, in evaluation mode, on the CPU.

    Raises:
        Refused: the file is missing, altered, or of another configuration; `made_by` makes it again.
    """
    content = files.verified(path, digest, made_by=made_by)
    transformer = Transformer(model, **inputs)
    try:
        weights: dict[str, Tensor] = safetensors.torch.load(content)
        transformer.load_state_dict(weights)
    except (SafetensorError, RuntimeError):
        raise Refused(f"{path}: does not fit config.json; make it again with `{made_by}`") from None
    return transformer.eval()
