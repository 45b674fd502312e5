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
"""Folder of the weights along training, inside the artifact's."""

Weights = dict[str, Tensor]
"""Parameter name -> tensor, as in the state dict of a `Transformer`."""
TaskParser = Callable[[Any, str], Task]
"""Parser of a task: takes its plain values, and the key to name in an error."""
Key = TypeVar("Key")


class StoredWeights(Mapping[Key, Weights]):
    """Weights in a folder; each file is read and verified when it is accessed.

    Raises:
        UserError: the accessed file is missing, truncated or altered.
    """

    def __init__(self, folder: files.VerifiedFolder, file_names: dict[Key, str]) -> None:
        self.folder, self.file_names = folder, file_names

    def __getitem__(self, key: Key) -> Weights:
        name = self.file_names[key]
        try:
            return safetensors.torch.load(self.folder.bytes(name))
        except SafetensorError:
            path, command = self.folder.folder / name, self.folder.creating_command
            raise UserError(f"{path}: not a safetensors file; make it again with `{command}`") from None

    def __iter__(self) -> Iterator[Key]:
        return iter(self.file_names)

    def __len__(self) -> int:
        return len(self.file_names)


@dataclass(frozen=True)
class Artifact:
    """A trained ablation. `fit` returns it, `write` and `read` store it in a folder."""

    ablation: Ablation
    """The ablation as it was trained."""
    vocabulary: list[str]
    input_length: int
    """Longest input, in tokens."""
    parameter_count: int
    """Number of trained numbers per seed."""
    dataset_digests: Mapping[str, str]
    """File name -> SHA-256 of each file it was trained on."""
    history: pd.DataFrame
    """One row per seed and evaluation (see `history_columns`)."""
    # `Weights`, but declared as Any: run-time type checks would read the files of an artifact that was read
    weights: Mapping[int, Any]
    """Seed -> weights after its last step; for a task scored in bits, at its best evaluation."""
    snapshots: Mapping[tuple[int, int], Any] = field(default_factory=dict)
    """(Seed, step) -> weights along training, in bfloat16."""
    folder: files.VerifiedFolder | None = None
    """The folder it was read from."""

    @property
    def digest(self) -> str:
        """Digest of all files it was read from; empty if it was not read."""
        return self.folder.digest if self.folder else ""

    def load_model(
        self, seed: int, transformer_arguments: Mapping[str, Any], *, step: int | None = None
    ) -> Transformer:
        """Trained model of `seed`, or its snapshot at `step`, in evaluation mode on the CPU.

        `inputs` are the other arguments of `Transformer`, such as `Dataset.inputs`. Snapshots are rounded to bfloat16.

        Raises:
            UserError: its weights are missing, altered, or those of another configuration.
        """
        transformer = Transformer(self.ablation.model, **transformer_arguments)
        try:
            transformer.load_state_dict(self.weights[seed] if step is None else self.snapshots[seed, step])
        except RuntimeError:
            where = self.folder.folder if self.folder else self.ablation.name
            raise UserError(f"{where}: the weights of seed {seed} do not fit {CONFIG_FILE}; train it again") from None
        return transformer.eval()

    def write(self, folder: Path) -> None:
        """Replace `folder` by this artifact. An artifact without history writes no history.csv.

        Raises:
            OSError: there is no room, or no permission; the old content of `folder` stays.
        """
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
                files.write_bytes(new / weights_file(seed), safetensors.torch.save(weights))
            for (seed, step), weights in self.snapshots.items():
                files.write_bytes(new / snapshot_file(seed, step), safetensors.torch.save(weights))
            if len(self.history):
                files.write_csv(new / HISTORY_FILE, self.history)
            files.write_json(new / CONFIG_FILE, config)

    @classmethod
    def read(
        cls, folder: Path, parse_task: TaskParser, *, name: str | None = None, creating_command: str = ""
    ) -> "Artifact":
        """Read the artifact in `folder`, its weights only when they are accessed.

        Args:
            folder: holds the files that `write` made.
            parse_task: parses the task in config.json.
            name: the ablation it must be (default: any).
            made_by: the command that errors suggest (default: train).

        Raises:
            UserError: the folder is missing, incomplete, altered, of another ablation or of an earlier version.
        """
        verified = files.open_verified(
            folder, creating_command=creating_command or f"python -m pipeline train {folder.name}", subject=name
        )
        config, where = verified.json(CONFIG_FILE), str(folder / CONFIG_FILE)
        try:
            ablation = Ablation(
                name=verified.subject,
                dataset=config["dataset"]["name"],
                task=parse_task(config["task"], f"{where}: task"),
                model=parse(Model, config["model"], f"{where}: model"),
                training=parse(Training, config["training"], f"{where}: training"),
            )
            vocabulary, length, parameters = config["vocabulary"], config["length"], config["parameters"]
            dataset_digests = config["dataset"]["digests"]
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{where}: of another version ({error}); make it again with `{verified.creating_command}`"
            ) from None
        history = (
            verified.csv(HISTORY_FILE) if HISTORY_FILE in verified.digests else pd.DataFrame(columns=history_columns())
        )
        seeds = {seed: weights_file(seed) for seed in ablation.training.seeds}
        seeds = {seed: file for seed, file in seeds.items() if file in verified.digests}
        steps = {
            _parse_snapshot_file(file): file for file in verified.digests if file.startswith(f"{SNAPSHOT_FOLDER}/")
        }
        weights, snapshots = StoredWeights(verified, seeds), StoredWeights(verified, dict(sorted(steps.items())))
        return cls(ablation, vocabulary, length, parameters, dataset_digests, history, weights, snapshots, verified)


def read_artifact_trained_on(folder: Path, ablation: Ablation, dataset: Dataset) -> Artifact:
    """Read the artifact of `ablation`, which must have been trained on `dataset`, so that its task is the dataset's.

    Raises:
        UserError: as `Artifact.read`, or it was trained on another dataset.
    """
    artifact = Artifact.read(folder, lambda values, where: ablation.task, name=ablation.name)
    if artifact.dataset_digests != dataset.digests:
        raise UserError(
            f"{folder}: trained on another dataset than data/ holds; run `python -m pipeline train {folder.name}` again"
        )
    return artifact


def weights_file(seed: int) -> str:
    """Name of the file with the weights of a seed."""
    return f"seed-{seed}.safetensors"


def snapshot_file(seed: int, step: int) -> str:
    """Name, below the artifact's folder, of the file with the weights of a seed after `step`."""
    return f"{SNAPSHOT_FOLDER}/seed-{seed}-step-{step}.safetensors"


def _parse_snapshot_file(name: str) -> tuple[int, int]:
    _, seed, _, step = Path(name).stem.split("-")
    return int(seed), int(step)
