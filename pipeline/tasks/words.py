"""What tasks about words have in common: all words of one length over an alphabet, each equally likely, then `=`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from pipeline.errors import UserError
from pipeline.tasks import SPLITS

MOST_ENUMERATED = 10**6

Symbols = Int[np.ndarray, "problems length"]
"""Words, a row each: places in the alphabet."""


@dataclass(frozen=True)
class Words:
    """The problems of such a task. Its class says the alphabet, how long a word is, and what is asked of it."""

    task: Any
    end = ""
    place = "place"
    alphabet: ClassVar[str]
    framing: ClassVar[str] = ""
    """What prompts hold beside words and the `=`."""

    @property
    def length(self) -> int:
        """Of a word."""
        raise NotImplementedError

    @property
    def places(self) -> Sequence[str]:
        return ["answer"]

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        raise NotImplementedError

    def table(self, symbols: Symbols) -> pd.DataFrame:
        """The problems that these words make."""
        raise NotImplementedError

    @property
    def vocabulary(self) -> list[str]:
        return sorted({*self.alphabet, *self.framing, "="})

    def words(self, symbols: Symbols) -> pd.Series:
        """As text."""
        return pd.Series(["".join(row) for row in np.array(list(self.alphabet))[symbols]])

    def splits(self) -> dict[str, pd.DataFrame]:
        sizes = [getattr(self.task, f"{split}_size") for split in SPLITS]
        if sum(sizes) > self._existing:
            raise UserError(
                f"task: more examples asked for than exist: {sum(sizes)} words of {self.length} characters, of which "
                f"there are {self._existing}"
            )
        generator = np.random.default_rng(self.task.seed)
        if self._existing <= MOST_ENUMERATED:
            numbers = generator.permutation(self._existing)[: sum(sizes)]
        else:
            numbers = np.zeros(0, dtype=np.int64)
            while len(numbers) < sum(sizes):
                drawn = np.concatenate((numbers, generator.integers(0, self._existing, sum(sizes))))
                numbers = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
            numbers = numbers[: sum(sizes)]
        tables = [self.table(self._symbols(some)) for some in np.split(numbers, np.cumsum(sizes)[:-1])]
        return dict(zip(SPLITS, tables, strict=True))

    def enumerated(self) -> tuple[pd.DataFrame, Float[np.ndarray, " problems"]] | None:
        if self._existing > MOST_ENUMERATED:
            return None
        return self.table(self._symbols(np.arange(self._existing))), np.full(self._existing, 1.0 / self._existing)

    @property
    def _existing(self) -> int:
        return len(self.alphabet) ** self.length

    def _symbols(self, numbers: Int[np.ndarray, " problems"]) -> Symbols:
        """Numbers as words: their digits to the base of the alphabet, the highest first."""
        powers = len(self.alphabet) ** np.arange(self.length)[::-1]
        return numbers[:, None] // powers % len(self.alphabet)


def distinct(symbols: Symbols) -> Int[np.ndarray, " problems"]:
    """How many different symbols each word has."""
    ordered = np.sort(symbols, axis=1)
    return 1 + (np.diff(ordered, axis=1) != 0).sum(1)
