"""The base class of tasks about strings of symbols: all strings of one length over an alphabet, equally likely."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from pipeline.errors import UserError
from pipeline.params.task import SPLITS, Task

MAX_ENUMERATED_EXAMPLES = 10**6
"""Largest number of examples of a task that are all enumerated."""

SymbolIndices = Int[np.ndarray, "examples length"]
"""Strings of symbols, one per row; each symbol is an index into the alphabet of the task."""


class StringTask(Task):
    """Base class of tasks about strings of symbols.

    A subclass defines the alphabet, the length of a string, and the prompt and answer about each string.
    """

    alphabet: ClassVar[str] = "0123456789"
    """Characters that stand for the symbols, in order."""
    extra_characters: ClassVar[str] = ""
    """Characters of prompts that are neither in the alphabet nor `=`."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Number of symbols in a string."""

    @abstractmethod
    def build_table(self, symbols: SymbolIndices) -> pd.DataFrame:
        """Return the table of examples with these strings as prompts, with the columns that `Task` requires."""

    @property
    def example_count(self) -> int:
        """Number of different examples of the task."""
        return len(self.alphabet) ** self.length

    @property
    def answer_position_names(self) -> Sequence[str]:
        return ["answer"]

    @property
    def vocabulary(self) -> list[str]:
        return sorted({*self.alphabet, *self.extra_characters, "="})

    def to_text(self, symbols: SymbolIndices) -> pd.Series:
        """Return each string of symbols as text."""
        return pd.Series(["".join(row) for row in np.array(list(self.alphabet))[symbols]])

    def draw_splits(self) -> dict[str, pd.DataFrame]:
        ends = np.cumsum(list(self.sizes.values()))
        total = int(ends[-1])
        if total > self.example_count:
            raise UserError(
                f"task: more examples asked for than exist: {total} strings of {self.length} characters, of which "
                f"there are {self.example_count}"
            )
        generator = np.random.default_rng(self.seed)
        if self.example_count <= MAX_ENUMERATED_EXAMPLES:
            numbers = generator.permutation(self.example_count)
        else:
            numbers = np.zeros(0, dtype=np.int64)
            while len(numbers) < total:
                drawn = np.concatenate((numbers, generator.integers(0, self.example_count, total)))
                numbers = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
        parts = np.split(numbers, ends)[: len(SPLITS)]  # without what is left over
        tables = (self.build_table(self.numbers_to_strings(part)) for part in parts)
        return dict(zip(SPLITS, tables, strict=True))

    def enumerate_examples(self) -> tuple[pd.DataFrame, Float[np.ndarray, " examples"]] | None:
        if self.example_count > MAX_ENUMERATED_EXAMPLES:
            return None
        table = self.build_table(self.numbers_to_strings(np.arange(self.example_count)))
        return table, np.full(self.example_count, 1.0 / self.example_count)

    def numbers_to_strings(self, numbers: Int[np.ndarray, " examples"]) -> SymbolIndices:
        """Return the string with each number: its digits to the base of the alphabet's size, most significant first."""
        powers = len(self.alphabet) ** np.arange(self.length)[::-1]
        return numbers[:, None] // powers % len(self.alphabet)
