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
"""A target that does not count (the default of torch's cross-entropy)."""
DONOR_COUNT = 64
"""Training examples that lend their states to substitutes: enough for a mean, few beside the evaluated examples."""


def is_correct(predicted: Int[Tensor, "*#shape"], targets: Int[Tensor, "*#shape"]) -> Bool[Tensor, "..."]:
    """Return True for each predicted token that equals its target, and where the target is `IGNORED`."""
    return (predicted == targets) | (targets == IGNORED_TARGET)


@dataclass(frozen=True)
class Examples:
    """Token sequences, and the predictions that count in each.

    Sequences are padded on the right with token 0. No prediction depends on padding, except through a substitute for a
    residual connection, which takes states of other examples, padding included.
    """

    tokens: Int[Tensor, "*examples length"]
    """The model's input: all tokens but the last one, from which nothing is predicted."""
    positions: Int[Tensor, "*examples reads"]
    """Positions at which predictions are read. A shorter answer repeats its last one, with the target `IGNORED`."""
    targets: Int[Tensor, "*examples reads"]
    """The token after each position."""

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: Any) -> "Examples":
        """The examples at `index`: a slice, a mask, or a tensor of numbers, whose shape the result takes."""
        return Examples(self.tokens[index], self.positions[index], self.targets[index])

    def to(self, device: torch.device) -> "Examples":
        """The same examples on `device`."""
        return Examples(self.tokens.to(device), self.positions.to(device), self.targets.to(device))

    @property
    def prompt_lengths(self) -> Int[Tensor, " examples"]:
        """Tokens of each prompt, where `targets` are those of the answer."""
        return self.positions[:, 0] + 1

    @property
    def lengths(self) -> Int[Tensor, " examples"]:
        """Tokens of each sequence, the last one included and padding excluded."""
        return 1 + (self.positions + (self.targets != IGNORED_TARGET)).amax(1)

    def with_all_targets(self) -> "Examples":
        """The same sequences with every token after the first as a target, where `targets` were those of the answer."""
        positions = torch.arange(self.tokens.shape[1]).expand_as(self.tokens)
        targets = torch.cat((self.tokens[:, 1:], torch.zeros_like(self.tokens[:, :1])), dim=1)
        counts = self.targets != IGNORED_TARGET
        targets[counts.nonzero()[:, 0], self.positions[counts]] = self.targets[counts]  # the last token is no input
        return Examples(self.tokens, positions, targets.where(positions < self.lengths[:, None] - 1, IGNORED_TARGET))


@dataclass(frozen=True)
class Dataset:
    """A dataset as read from disk."""

    task: Task
    vocabulary: list[str]
    """The character of each token."""
    end_token: str
    tables: dict[str, pd.DataFrame]
    """Split -> its table, a row per example."""
    examples: dict[str, Examples]
    """Split -> the same examples as tokens, with the answers as targets."""
    digests: dict[str, str]
    """File name of each table -> SHA-256."""

    @property
    def input_length(self) -> int:
        """Tokens that a model reads of an example."""
        return self.examples["train"].tokens.shape[1]

    @property
    def transformer_arguments(self) -> dict[str, Any]:
        """Arguments of `Transformer` that depend on the data: `vocabulary`, the number of different tokens; `length`;
        `donors`, the examples whose states substitutes use."""
        donors = self.examples["train"].tokens[:DONOR_COUNT]
        return {"vocabulary": len(self.vocabulary), "length": self.input_length, "donors": donors}


def write(folder: Path, task: Task) -> None:
    """Draw the dataset and write it to `folder`.

    Raises:
        UserError: the task has fewer examples than asked for.
    """
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
        UserError: it is not.
    """
    made_by = f"python -m pipeline generate {folder.name}"
    written = files.open_verified(folder, creating_command=made_by, subject=task.name)
    description = written.json(DESCRIPTION_FILE)
    for key, wanted in task.model_dump(mode="json").items():
        if (given := description["task"].get(key)) != wanted:
            raise UserError(
                f"{folder}: made with {key} {given}, but params.yaml says {wanted}; make it again with `{made_by}`"
            )
    vocabulary, end = description["vocabulary"], description["end"]
    tables = {split: written.csv(f"{split}.csv", text_columns=("prompt", "answer")) for split in SPLITS}
    longest = max(int((table["prompt"] + table["answer"]).str.len().max()) for table in tables.values()) + len(end)
    examples = {split: encode_table(table, vocabulary, end, length=longest) for split, table in tables.items()}
    digests = {name: written.digests[name] for name in (f"{split}.csv" for split in SPLITS)}
    return Dataset(task, vocabulary, end, tables, examples, digests)


def encode_table(table: pd.DataFrame, vocabulary: list[str], end: str, *, length: int | None = None) -> Examples:
    """The sequences `prompt + answer + end` as tokens, padded to `length` tokens (default: the longest sequence).

    Raises:
        UserError: a character is not in the vocabulary.
    """
    prompts, answers = table["prompt"].tolist(), [answer + end for answer in table["answer"]]
    texts = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    prompt_length = np.array([len(prompt) for prompt in prompts])[:, None]
    answer_length = np.array([len(answer) for answer in answers])[:, None]
    length = length or max(map(len, texts))
    characters = np.array([text.ljust(length, vocabulary[0]) for text in texts], dtype=f"<U{length}")
    tokens = _encode_characters(characters.view(np.uint32).reshape(len(texts), length), vocabulary)
    index = np.arange(answer_length.max())
    positions = prompt_length - 1 + np.minimum(index, answer_length - 1)
    targets = np.where(index < answer_length, np.take_along_axis(tokens, positions + 1, axis=1), IGNORED_TARGET)
    return Examples(*map(torch.from_numpy, (tokens[:, :-1], positions, targets)))


def _encode_characters(code_points: np.ndarray, vocabulary: list[str]) -> Int[np.ndarray, "examples length"]:
    token_of = np.full(0x110000, -1)
    token_of[[ord(character) for character in vocabulary]] = np.arange(len(vocabulary))
    tokens = token_of[code_points]
    if (tokens < 0).any():
        unknown = chr(code_points[tokens < 0][0])
        raise UserError(f"the character {unknown!r} is not in the vocabulary {''.join(vocabulary)!r}")
    return tokens
