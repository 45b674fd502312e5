"""Artifact of a trained ablation. In a folder, weights are safetensors, and a manifest lists every file's digest."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import safetensors.torch
from torch import Tensor

from pipeline import files
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.params import Ablation, Model, Task, Training, parse
from pipeline.transformer.model import Transformer

CONFIG_FILE, HISTORY_FILE = "config.json", "history.csv"

Weights = dict[str, Tensor]
"""Weights of one transformer, as in its state dict: parameter name -> tensor."""
TaskParser = Callable[[Any, str], Task]
"""Function that parses a task from the plain values of config.json, and from the key to name in error messages."""
WeightsKey = TypeVar("WeightsKey")


class StoredWeights(Mapping[WeightsKey, Weights]):
    """Mapping of weights stored in a folder; each file is read and verified when its key is accessed."""

    def __init__(self, folder: files.VerifiedFolder, file_names: dict[WeightsKey, str]) -> None:
        self.folder, self.file_names = folder, file_names

    def __getitem__(self, key: WeightsKey) -> Weights:
        return safetensors.torch.load(self.folder.read_bytes(self.file_names[key]))

    def __iter__(self) -> Iterator[WeightsKey]:
        return iter(self.file_names)

    def __len__(self) -> int:
        return len(self.file_names)


@dataclass(frozen=True)
class Artifact:
    """Trained ablation: configuration, history and weights of all seeds, in memory or in a folder."""

    ablation: Ablation
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

    def load_model(self, seed: int, transformer_arguments: Mapping[str, Any], step: int | None = None) -> Transformer:
        """Build the trained model of `seed`, or its snapshot after `step`, in evaluation mode on the CPU.

        `transformer_arguments` are the arguments of `Transformer` besides the model settings, as in `Dataset`.
        """
        transformer = Transformer(self.ablation.model, **transformer_arguments)
        try:
            transformer.load_state_dict(self.weights[seed] if step is None else self.snapshots[seed, step])
        except RuntimeError:
            name = self.ablation.name
            raise UserError(f"{name}: the weights of seed {seed} do not fit {CONFIG_FILE}; train it again") from None
        return transformer.eval()

    def write(self, folder: Path) -> None:
        """Write the artifact to `folder`, in place of earlier content; without a history there is no history.csv."""
        config = {
            "ablation": self.ablation.name,
            **self.ablation.model_dump(mode="json", include={"task", "model", "training"}),
            "vocabulary": self.vocabulary,
            "length": self.input_length,
            "parameters": self.parameter_count,
            "dataset": {"name": self.ablation.dataset, "digests": self.dataset_digests},
        }
        weights_by_file = {f"seed-{seed}": weights for seed, weights in self.weights.items()}
        for (seed, step), weights in self.snapshots.items():
            weights_by_file[f"snapshots/seed-{seed}-step-{step}"] = weights
        with files.replace_folder(folder, subject=self.ablation.name) as new:
            for name, weights in weights_by_file.items():
                files.write_bytes(new / f"{name}.safetensors", safetensors.torch.save(weights))
            if len(self.history):
                files.write_csv(new / HISTORY_FILE, self.history)
            files.write_json(new / CONFIG_FILE, config)

    @classmethod
    def read(
        cls, folder: Path, parse_task: TaskParser, *, name: str | None = None, creating_command: str = ""
    ) -> "Artifact":
        """Read the artifact in `folder`; its weights are read later, when they are accessed.

        Args:
            name: the name that the ablation must have (default: any).
            creating_command: the command that error messages suggest (default: train).

        Raises:
            UserError: the folder is missing, incomplete, altered, of another ablation or of an earlier version.
        """
        command = creating_command or f"python -m pipeline train {folder.name}"
        verified = files.open_verified_folder(folder, creating_command=command, subject=name)
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
            raise UserError(f"{path}: of another version ({error}); make it again with `{command}`") from None
        names = verified.digests
        history = verified.read_csv(HISTORY_FILE) if HISTORY_FILE in names else pd.DataFrame()
        seeds = {seed: file for seed in ablation.training.seeds if (file := f"seed-{seed}.safetensors") in names}
        steps = {
            (int(match[1]), int(match[2])): file
            for file in names
            if (match := re.fullmatch(r"snapshots/seed-(\d+)-step-(\d+)\.safetensors", file))
        }
        weights, snapshots = StoredWeights(verified, seeds), StoredWeights(verified, steps)
        return cls(ablation, vocabulary, length, parameters, dataset_digests, history, weights, snapshots, verified)


def read_artifact_trained_on(folder: Path, ablation: Ablation, dataset: Dataset) -> Artifact:
    """Read the artifact of `ablation`; a folder of another ablation or dataset raises UserError."""
    artifact = Artifact.read(folder, lambda values, key: ablation.task, name=ablation.name)
    if artifact.dataset_digests != dataset.digests:
        command = f"python -m pipeline train {folder.name}"
        raise UserError(f"{folder}: trained on another dataset than data/ holds; run `{command}` again")
    return artifact
