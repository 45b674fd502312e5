"""Artifact of a trained ablation: configuration, history and weights of every seed, in memory or in a folder.

In a folder, weights are safetensors (nothing is pickled), and a manifest lists the digest of every file.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pipeline import files
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.params import Ablation, Model, Task, Training, parse
from pipeline.training.convergence import history_columns
from pipeline.transformer.model import Transformer

CONFIG_FILE, HISTORY_FILE = "config.json", "history.csv"
SNAPSHOT_FOLDER = "snapshots"
"""Name of the folder, inside an artifact's folder, with the weights of earlier training steps."""

Weights = dict[str, Tensor]
"""Weights of one transformer, as in its state dict: parameter name -> tensor."""
TaskParser = Callable[[Any, str], Task]
"""Function that parses a task from the plain values of config.json, and from the key to name in error messages."""
WeightsKey = TypeVar("WeightsKey")


class StoredWeights(Mapping[WeightsKey, Weights]):
    """Mapping of weights stored in a folder; each file is read and verified when its key is accessed.

    Raises:
        UserError: the accessed file is missing, truncated or altered.
    """

    def __init__(self, folder: files.VerifiedFolder, file_names: dict[WeightsKey, str]) -> None:
        self.folder, self.file_names = folder, file_names

    def __getitem__(self, key: WeightsKey) -> Weights:
        name = self.file_names[key]
        try:
            return safetensors.torch.load(self.folder.read_bytes(name))
        except SafetensorError:
            path, command = self.folder.folder / name, self.folder.creating_command
            raise UserError(f"{path}: not a safetensors file; make it again with `{command}`") from None

    def __iter__(self) -> Iterator[WeightsKey]:
        return iter(self.file_names)

    def __len__(self) -> int:
        return len(self.file_names)


@dataclass(frozen=True)
class Artifact:
    """Trained ablation: configuration, history and weights of all seeds, in memory or in a folder."""

    ablation: Ablation
    """Ablation with the settings of its training."""
    vocabulary: list[str]
    """Characters of the dataset; the index of a character is its token."""
    input_length: int
    """Number of tokens of the longest input."""
    parameter_count: int
    """Number of trainable numbers in the model of one seed."""
    dataset_digests: Mapping[str, str]
    """File name of each dataset table -> SHA-256 of the file that the ablation was trained on."""
    history: pd.DataFrame
    """Results of the evaluations during training: one row per seed and evaluation (see `history_columns`)."""
    # `Weights`, but declared as Any, because run-time type checks would read the files of an artifact on disk
    weights: Mapping[int, Any]
    """Seed -> weights after the last training step; for a task scored in bits, at the best evaluation."""
    snapshots: Mapping[tuple[int, int], Any] = field(default_factory=dict)
    """(Seed, step) -> weights after that training step, in bfloat16."""
    folder: files.VerifiedFolder | None = None
    """Folder that the artifact was read from; None if it was trained in this process."""

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest of the artifact's folder; empty if the artifact was trained in this process."""
        return self.folder.digest if self.folder else ""

    def load_model(
        self, seed: int, transformer_arguments: Mapping[str, Any], *, step: int | None = None
    ) -> Transformer:
        """Build the trained model of `seed`, or its snapshot after `step`, in evaluation mode on the CPU.

        Args:
            transformer_arguments: the arguments of `Transformer` besides the model settings, as in `Dataset`.

        Raises:
            UserError: the weights are missing, altered, or do not fit the model settings.
        """
        transformer = Transformer(self.ablation.model, **transformer_arguments)
        try:
            transformer.load_state_dict(self.weights[seed] if step is None else self.snapshots[seed, step])
        except RuntimeError:
            source = self.folder.folder if self.folder else self.ablation.name
            raise UserError(f"{source}: the weights of seed {seed} do not fit {CONFIG_FILE}; train it again") from None
        return transformer.eval()

    def write(self, folder: Path) -> None:
        """Write the artifact to `folder`, in place of earlier content; without a history there is no history.csv."""
        config = {
            "ablation": self.ablation.name,
            "task": self.ablation.task.model_dump(mode="json"),
            "model": self.ablation.model.model_dump(mode="json"),
            "training": self.ablation.training.model_dump(mode="json"),
            "vocabulary": self.vocabulary,
            "length": self.input_length,
            "parameters": self.parameter_count,
            "dataset": {"name": self.ablation.dataset, "digests": self.dataset_digests},
        }
        with files.replace_folder(folder, subject=self.ablation.name) as new:
            for seed, weights in self.weights.items():
                files.write_bytes(new / weights_file_name(seed), safetensors.torch.save(weights))
            for (seed, step), weights in self.snapshots.items():
                files.write_bytes(new / snapshot_file_name(seed, step), safetensors.torch.save(weights))
            if len(self.history):
                files.write_csv(new / HISTORY_FILE, self.history)
            files.write_json(new / CONFIG_FILE, config)

    @classmethod
    def read(
        cls, folder: Path, parse_task: TaskParser, *, name: str | None = None, creating_command: str = ""
    ) -> "Artifact":
        """Read the artifact in `folder`; its weights are read later, when they are accessed.

        Args:
            folder: contains the files that `write` wrote.
            parse_task: parses the task in config.json.
            name: the name that the ablation must have (default: any).
            creating_command: the command that error messages suggest (default: train).

        Raises:
            UserError: the folder is missing, incomplete, altered, of another ablation or of an earlier version.
        """
        verified = files.open_verified_folder(
            folder, creating_command=creating_command or f"python -m pipeline train {folder.name}", subject=name
        )
        config, path = verified.read_json(CONFIG_FILE), folder / CONFIG_FILE
        try:
            ablation = Ablation(
                name=verified.subject,
                dataset=config["dataset"]["name"],
                task=parse_task(config["task"], f"{path}: task"),
                model=parse(Model, config["model"], f"{path}: model"),
                training=parse(Training, config["training"], f"{path}: training"),
            )
            vocabulary, length, parameters = config["vocabulary"], config["length"], config["parameters"]
            dataset_digests = config["dataset"]["digests"]
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{path}: of another version ({error}); make it again with `{verified.creating_command}`"
            ) from None
        history = pd.DataFrame(columns=history_columns())
        if HISTORY_FILE in verified.digests:
            history = verified.read_csv(HISTORY_FILE)
        seeds = {seed: weights_file_name(seed) for seed in ablation.training.seeds}
        seeds = {seed: file for seed, file in seeds.items() if file in verified.digests}
        steps = {
            _parse_snapshot_file(file): file for file in verified.digests if file.startswith(f"{SNAPSHOT_FOLDER}/")
        }
        weights, snapshots = StoredWeights(verified, seeds), StoredWeights(verified, dict(sorted(steps.items())))
        return cls(ablation, vocabulary, length, parameters, dataset_digests, history, weights, snapshots, verified)


def read_artifact_trained_on(folder: Path, ablation: Ablation, dataset: Dataset) -> Artifact:
    """Read the artifact of `ablation`, which must have been trained on `dataset`.

    Raises:
        UserError: the folder is missing, incomplete, altered or of another ablation, or the dataset is another.
    """
    artifact = Artifact.read(folder, lambda values, key: ablation.task, name=ablation.name)
    if artifact.dataset_digests != dataset.digests:
        raise UserError(
            f"{folder}: trained on another dataset than data/ holds; run `python -m pipeline train {folder.name}` again"
        )
    return artifact


def weights_file_name(seed: int) -> str:
    """Return the name of the file with the trained weights of a seed."""
    return f"seed-{seed}.safetensors"


def snapshot_file_name(seed: int, step: int) -> str:
    """Return the path, inside an artifact's folder, of the file with the weights of a seed after `step`."""
    return f"{SNAPSHOT_FOLDER}/seed-{seed}-step-{step}.safetensors"


def _parse_snapshot_file(name: str) -> tuple[int, int]:
    _, seed, _, step = Path(name).stem.split("-")
    return int(seed), int(step)
