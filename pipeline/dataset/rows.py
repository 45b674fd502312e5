"""From text to token rows: what a model reads, and what it should say where."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from pipeline.errors import UserError

IGNORED = -100
"""A target that does not count (the default of torch's cross-entropy)."""


def is_correct(said: Any, targets: Any) -> Any:
    """Where a token is as it should be, or none is asked for: of arrays or tensors, with a boolean for each target."""
    return (said == targets) | (targets == IGNORED)


@dataclass(frozen=True)
class Rows:
    """Rows of tokens, padded on the right with token 0, which no prediction sees (but where a substitute for a residual
    connection takes states of other rows: those of their padding, too).

    A position is where a prediction is made; its target is the token after it. Shorter answers repeat their last
    position, with the target `NOTHING`.
    """

    tokens: Int[np.ndarray, "rows length"]
    answer_positions: Int[np.ndarray, "rows answer"]
    answer_targets: Int[np.ndarray, "rows answer"]

    def asked(self, some: Any) -> tuple[Int[np.ndarray, "rows _"], ...]:
        """Of some rows: the tokens that a model reads (the last is never an input), where its answer is read, and what
        it should be."""
        chosen = (self.tokens[some, :-1], self.answer_positions[some], self.answer_targets[some])
        return tuple(table.astype(np.int64) for table in chosen)

    @property
    def lengths(self) -> Int[np.ndarray, " rows"]:
        """Tokens of each row, without what it is padded with."""
        return 1 + (self.answer_positions + (self.answer_targets != IGNORED)).max(axis=1)

    @property
    def all_positions(self) -> Int[np.ndarray, "rows reads"]:
        """Every position but the last."""
        rows, length = self.tokens.shape
        return np.broadcast_to(np.arange(length - 1), (rows, length - 1))

    @property
    def all_targets(self) -> Int[np.ndarray, "rows reads"]:
        """The token after every position, as far as the row goes."""
        return np.where(self.all_positions < self.lengths[:, None] - 1, self.tokens[:, 1:], IGNORED)


def encode(table: pd.DataFrame, vocabulary: list[str], end: str, *, length: int | None = None) -> Rows:
    """Token rows of `prompt + answer + end`, `length` tokens long (default: the longest row).

    Raises:
        UserError: a character is not in the vocabulary.
    """
    prompts, answers = table["prompt"].tolist(), [answer + end for answer in table["answer"]]
    texts = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    prompt_length = np.array([len(prompt) for prompt in prompts])
    answer_length = np.array([len(answer) for answer in answers])
    length = length or max(map(len, texts))
    code_points = np.array([text.ljust(length, vocabulary[0]) for text in texts], dtype=f"<U{length}")
    tokens = _tokens(code_points.view(np.uint32).reshape(len(texts), length), vocabulary)
    place = np.minimum(np.arange(answer_length.max()), answer_length[:, None] - 1)
    positions = prompt_length[:, None] - 1 + place
    targets = np.take_along_axis(tokens, positions + 1, axis=1)
    said = np.arange(answer_length.max()) < answer_length[:, None]
    return Rows(tokens, positions, np.where(said, targets, IGNORED))


def _tokens(code_points: np.ndarray, vocabulary: list[str]) -> Int[np.ndarray, "rows length"]:
    token_of = np.full(0x110000, -1)
    token_of[[ord(character) for character in vocabulary]] = np.arange(len(vocabulary))
    tokens = token_of[code_points]
    if (tokens < 0).any():
        stranger = chr(code_points[tokens < 0][0])
        raise UserError(f"the character {stranger!r} is not in the vocabulary {''.join(vocabulary)!r}")
    return tokens
