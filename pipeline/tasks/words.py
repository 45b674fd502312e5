"""The base class of tasks whose prompts are words: all words of one length over an alphabet, each equally likely."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from pipeline.errors import UserError
from pipeline.params.task import SPLITS, Task

MOST_ENUMERATED = 10**6

Symbols = Int[np.ndarray, "examples length"]
"""Words, a row each; a symbol is an index into the alphabet."""


class Words(Task):
    """A task about words. A subclass gives the alphabet, the length of a word, and the prompt and answer of each."""

    alphabet: ClassVar[str]
    framing: ClassVar[str] = ""
    """Characters of prompts besides the word and `=`."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Symbols in a word."""

    @abstractmethod
    def table(self, symbols: Symbols) -> pd.DataFrame:
        """The table of the examples that ask about these words."""

    @property
    def existing(self) -> int:
        """Number of different examples."""
        return len(self.alphabet) ** self.length

    @property
    def answer_positions(self) -> Sequence[str]:
        return ["answer"]

    @property
    def vocabulary(self) -> list[str]:
        return sorted({*self.alphabet, *self.framing, "="})

    def as_text(self, symbols: Symbols) -> pd.Series:
        """The words as text."""
        return pd.Series(["".join(row) for row in np.array(list(self.alphabet))[symbols]])

    def splits(self) -> dict[str, pd.DataFrame]:
        sizes = [getattr(self, f"{split}_size") for split in SPLITS]
        if sum(sizes) > self.existing:
            raise UserError(
                f"task: more examples asked for than exist: {sum(sizes)} words of {self.length} characters, of which "
                f"there are {self.existing}"
            )
        generator = np.random.default_rng(self.seed)
        if self.existing <= MOST_ENUMERATED:
            numbers = generator.permutation(self.existing)[: sum(sizes)]
        else:
            numbers = np.zeros(0, dtype=np.int64)
            while len(numbers) < sum(sizes):
                drawn = np.concatenate((numbers, generator.integers(0, self.existing, sum(sizes))))
                numbers = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
            numbers = numbers[: sum(sizes)]
        tables = [self.table(self.symbols(part)) for part in np.split(numbers, np.cumsum(sizes)[:-1])]
        return dict(zip(SPLITS, tables, strict=True))

    def enumerated(self) -> tuple[pd.DataFrame, Float[np.ndarray, " examples"]] | None:
        if self.existing > MOST_ENUMERATED:
            return None
        return self.table(self.symbols(np.arange(self.existing))), np.full(self.existing, 1.0 / self.existing)

    def symbols(self, numbers: Int[np.ndarray, " examples"]) -> Symbols:
        """The words with these numbers: the digits of a number to the base of the alphabet's size, highest first."""
        powers = len(self.alphabet) ** np.arange(self.length)[::-1]
        return numbers[:, None] // powers % len(self.alphabet)


def distinct(symbols: Symbols) -> Int[np.ndarray, " examples"]:
    """Number of different symbols in each word."""
    ordered = np.sort(symbols, axis=1)
    return 1 + (np.diff(ordered, axis=1) != 0).sum(1)
