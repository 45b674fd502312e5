"""A trained ablation on disk: weights per seed, the history, and `config.json`, which says everything needed to rebuild
the models. No pickle anywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pipeline import files
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.params import Ablation, Model, Training, parse
from pipeline.params import task as checked_task
from pipeline.training.convergence import History, history_columns
from pipeline.transformer.model import Transformer

CONFIG, HISTORY = "config.json", "history.csv"
SNAPSHOTS = "snapshots"
"""The folder, inside an ablation's, of the weights along training."""


@dataclass(frozen=True)
class Trained:
    """What training an ablation gives."""

    weights: dict[int, dict[str, Tensor]]
    """Seed -> weights at the member's last step; of a task scored by bits, at its best evaluation."""
    history: History
    parameters: int
    """Trained numbers of one member."""
    snapshots: dict[tuple[int, int], dict[str, Tensor]]
    """(Seed, step) -> weights along the way, in bfloat16."""


@dataclass(frozen=True)
class Written:
    """What a trained ablation's files say, before its weights are read."""

    files: files.VerifiedFolder
    ablation: Ablation
    """As it was trained."""
    vocabulary: list[str]
    length: int
    """The longest input, in tokens."""
    parameters: int
    """Trained numbers of one member."""
    dataset: dict[str, str]
    """Digests of the files that it was trained on."""

    @property
    def history(self) -> pd.DataFrame:
        """A row per seed and evaluation."""
        return self.files.csv(HISTORY)

    @property
    def seeds(self) -> list[int]:
        """Those of which the weights are there."""
        return [seed for seed in self.ablation.training.seeds if weights(seed) in self.files.digests]

    def member(self, name: str, inputs: dict[str, Any]) -> Transformer:
        """The model of a file of weights, in evaluation mode, on the CPU; `inputs`: what it must know of its tokens.

        Raises:
            UserError: the file is missing, altered, or of another configuration.
        """
        transformer = Transformer(self.ablation.model, **inputs)
        try:
            transformer.load_state_dict(safetensors.torch.load(self.files.bytes(name)))
        except (SafetensorError, RuntimeError):
            raise UserError(
                f"{self.files.folder / name}: does not fit {CONFIG}; make it again with `{self.files.made_by}`"
            ) from None
        return transformer.eval()


@dataclass(frozen=True)
class Checkpoint:
    """A trained ablation, read back."""

    ablation: Ablation
    parameters: int
    """Trained numbers of one member."""
    seal: str
    """What its files are, in a word."""
    history: pd.DataFrame
    members: dict[int, Transformer]
    """Seed -> the model, in evaluation mode, on the CPU."""
    snapshots: dict[tuple[int, int], Transformer]
    """(Seed, step) -> the model along the way, its weights rounded to bfloat16; empty unless asked for."""


def weights(seed: int) -> str:
    """The file of a member's weights."""
    return f"seed-{seed}.safetensors"


def write(folder: Path, ablation: Ablation, dataset: Dataset, trained: Trained) -> None:
    """Write `trained` as the content of `folder`, sealed."""
    config = {
        "ablation": ablation.name,
        "task": dataset.task.model_dump(mode="json"),
        "model": ablation.model.model_dump(mode="json"),
        "training": ablation.training.model_dump(mode="json"),
        "vocabulary": dataset.vocabulary,
        "length": dataset.length,
        "parameters": trained.parameters,
        "dataset": {"name": ablation.dataset, "digests": dataset.digests},
    }
    history = pd.DataFrame(trained.history, columns=history_columns(ablation.task.score))
    with files.replacing_folder(folder, of=ablation.name) as new:
        for seed, tensors in trained.weights.items():
            files.write_bytes(new / weights(seed), safetensors.torch.save(tensors))
        for (seed, step), tensors in trained.snapshots.items():
            path = new / SNAPSHOTS / f"seed-{seed}-step-{step}.safetensors"
            files.write_bytes(path, safetensors.torch.save(tensors))
        files.write_csv(new / HISTORY, history)
        files.write_json(new / CONFIG, config)


def opened(folder: Path, *, made_by: str = "", of: str | None = None) -> Written:
    """What the files of a trained ablation say; `of`: which it must be.

    Raises:
        UserError: the folder is not there, not whole, of another ablation, or of an earlier version.
    """
    sealed = files.open_verified(folder, made_by=made_by or f"python -m pipeline train {folder.name}", of=of)
    config, where = sealed.json(CONFIG), str(folder / CONFIG)
    try:
        ablation = Ablation(
            name=sealed.subject,
            dataset=config["dataset"]["name"],
            task=checked_task(config["task"], f"{where}: task"),
            model=parse(Model, config["model"], f"{where}: model"),
            training=parse(Training, config["training"], f"{where}: training"),
        )
        about = config["vocabulary"], config["length"], config["parameters"], config["dataset"]["digests"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{where}: of another version ({error}); make it again with `{sealed.made_by}`") from None
    return Written(sealed, ablation, *about)


def read(folder: Path, ablation: Ablation, dataset: Dataset, *, snapshots: bool = False) -> Checkpoint:
    """Read what `ablation` was trained to and check it: it must be whole, unaltered, and trained on `dataset`. How
    it was trained is what its files say. `snapshots`: those too.

    Raises:
        UserError: something is missing, truncated or altered, or the dataset is another.
    """
    there = opened(folder, of=ablation.name)
    if there.dataset != dataset.digests:
        raise UserError(f"{folder}: trained on another dataset than data/ holds; run `{there.files.made_by}` again")
    members = {seed: there.member(weights(seed), dataset.inputs) for seed in there.ablation.training.seeds}
    along = {
        _seed_and_step(name): there.member(name, dataset.inputs)
        for name in (there.files.digests if snapshots else ())
        if name.startswith(f"{SNAPSHOTS}/")
    }
    return Checkpoint(there.ablation, there.parameters, there.files.digest, there.history, members, along)


def _seed_and_step(name: str) -> tuple[int, int]:
    _, seed, _, step = Path(name).stem.split("-")
    return int(seed), int(step)
