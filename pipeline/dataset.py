"""A dataset on disk, and its examples as tokens.

On disk a dataset is a folder with one table per split, readable by people, and `dataset.json`, which describes them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pipeline import files
from pipeline.errors import UserError
from pipeline.params.task import SPLITS, Task

DESCRIPTION_FILE = "dataset.json"
IGNORED_TARGET = -100
"""Target value of positions whose prediction does not count (the default of torch's cross-entropy)."""
DONOR_COUNT = 64
"""Number of training examples whose states replace residual connections: enough for a mean, and cheap to compute."""


def is_correct(predicted: Int[Tensor, "*#shape"], targets: Int[Tensor, "*#shape"]) -> Bool[Tensor, "..."]:
    """Return True for each predicted token that equals its target, and where the target is `IGNORED_TARGET`."""
    return (predicted == targets) | (targets == IGNORED_TARGET)


@dataclass(frozen=True)
class Examples:
    """Token sequences, and the positions and targets of the predictions that count.

    Sequences are padded on the right with token 0. Padding has no effect on predictions, except where a residual
    connection is replaced by states of other examples, padding included.
    """

    tokens: Int[Tensor, "*examples length"]
    """Input of the model: all tokens of each sequence except the last one."""
    positions: Int[Tensor, "*examples reads"]
    """Positions whose next token is predicted. Short answers repeat the last position, with target `IGNORED_TARGET`."""
    targets: Int[Tensor, "*examples reads"]
    """Correct token after each of `positions`, or `IGNORED_TARGET`."""

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: Any) -> "Examples":
        """Return the examples at `index`: a slice, a mask, or a tensor of indices, whose shape the result takes."""
        return Examples(self.tokens[index], self.positions[index], self.targets[index])

    def to(self, device: torch.device) -> "Examples":
        """Return a copy of the examples on `device`."""
        return Examples(self.tokens.to(device), self.positions.to(device), self.targets.to(device))

    @property
    def prompt_lengths(self) -> Int[Tensor, " examples"]:
        """Number of tokens of each prompt, if the targets are the tokens of the answers."""
        return self.positions[:, 0] + 1

    @property
    def lengths(self) -> Int[Tensor, " examples"]:
        """Number of tokens of each sequence, without padding."""
        return 1 + (self.positions + (self.targets != IGNORED_TARGET)).amax(1)

    def with_all_targets(self) -> "Examples":
        """Return the examples with every token after the first as a target, instead of the answer tokens only."""
        positions = torch.arange(self.tokens.shape[1]).expand_as(self.tokens)
        targets = torch.cat((self.tokens[:, 1:], torch.zeros_like(self.tokens[:, :1])), dim=1)
        counts = self.targets != IGNORED_TARGET
        targets[counts.nonzero()[:, 0], self.positions[counts]] = self.targets[counts]  # the last token is no input
        return Examples(self.tokens, positions, targets.where(positions < self.lengths[:, None] - 1, IGNORED_TARGET))


@dataclass(frozen=True)
class Dataset:
    """Dataset of a task as read from disk: a table per split, and its examples as tokens."""

    task: Task
    vocabulary: list[str]
    """Characters of the dataset; the index of a character is its token."""
    tables: dict[str, pd.DataFrame]
    """Name of a split -> table of the split, one row per example."""
    examples: dict[str, Examples]
    """Name of a split -> examples of the split as tokens, with the answers as targets."""
    digests: dict[str, str]
    """File name of each table -> SHA-256 of the file."""

    @property
    def input_length(self) -> int:
        """Number of tokens of each example that a model gets as input."""
        return self.examples["train"].tokens.shape[1]

    @property
    def transformer_arguments(self) -> dict[str, Any]:
        """Arguments of `Transformer` that depend on the dataset; `donors` are training examples."""
        donors = self.examples["train"].tokens[:DONOR_COUNT]
        return {"vocabulary": len(self.vocabulary), "length": self.input_length, "donors": donors}


def write(folder: Path, task: Task) -> None:
    """Draw the dataset of a task and write it to `folder`."""
    tables = task.draw_splits()
    description = {
        "task": task.model_dump(mode="json"),
        "vocabulary": task.vocabulary,
        "end": task.end_token,
        "score": task.score.name,
        "counts": {split: len(table) for split, table in tables.items()},
    }
    with files.replace_folder(folder, subject=task.name) as new:
        for split, table in tables.items():
            files.write_csv(new / f"{split}.csv", table)
        files.write_json(new / DESCRIPTION_FILE, description)


def read(folder: Path, task: Task) -> Dataset:
    """Read the dataset in `folder`, and check that it is complete, unaltered, and that of `task`.

    Raises:
        UserError: a file is missing or altered, or the dataset is of another task.
    """
    command = f"python -m pipeline generate {folder.name}"
    folder_files = files.open_verified_folder(folder, creating_command=command, subject=task.name)
    description = folder_files.read_json(DESCRIPTION_FILE)
    for key, wanted in task.model_dump(mode="json").items():
        if (given := description["task"].get(key)) != wanted:
            raise UserError(
                f"{folder}: made with {key} {given}, but params.yaml says {wanted}; make it again with `{command}`"
            )
    vocabulary, end = description["vocabulary"], description["end"]
    tables = {split: folder_files.read_csv(f"{split}.csv", text_columns=("prompt", "answer")) for split in SPLITS}
    longest = max(int((table["prompt"] + table["answer"]).str.len().max()) for table in tables.values()) + len(end)
    examples = {split: encode_table(table, vocabulary, end, length=longest) for split, table in tables.items()}
    digests = {file: folder_files.digests[file] for file in (f"{split}.csv" for split in SPLITS)}
    return Dataset(task, vocabulary, tables, examples, digests)


def encode_table(table: pd.DataFrame, vocabulary: list[str], end_token: str, *, length: int | None = None) -> Examples:
    """Encode the texts `prompt + answer + end_token` of a table as tokens, padded to `length` (default: the longest).

    Raises:
        UserError: a character is not in the vocabulary.
    """
    prompts, answers = table["prompt"].tolist(), [answer + end_token for answer in table["answer"]]
    prompt_length, answer_length = (np.array([len(text) for text in texts])[:, None] for texts in (prompts, answers))
    length = length or int((prompt_length + answer_length).max())
    texts = [(prompt + answer).ljust(length, vocabulary[0]) for prompt, answer in zip(prompts, answers, strict=True)]
    code_points = np.array(texts, dtype=f"<U{length}").view(np.uint32).reshape(len(texts), length)
    token_of = np.full(0x110000, -1)
    token_of[[ord(character) for character in vocabulary]] = np.arange(len(vocabulary))
    tokens = token_of[code_points]
    if (tokens < 0).any():
        unknown = chr(code_points[tokens < 0][0])
        raise UserError(f"the character {unknown!r} is not in the vocabulary {''.join(vocabulary)!r}")
    index = np.arange(answer_length.max())
    positions = prompt_length - 1 + np.minimum(index, answer_length - 1)
    targets = np.where(index < answer_length, np.take_along_axis(tokens, positions + 1, axis=1), IGNORED_TARGET)
    return Examples(*map(torch.from_numpy, (tokens[:, :-1], positions, targets)))
