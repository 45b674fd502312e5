"""Digits answered backwards: `12345=54321`. The simplest task in which order is everything."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from pipeline.params.task import Reverse
from pipeline.refusal import Refused
from pipeline.tasks import SPLITS

MOST_DIGITS_ENUMERATED = 6


@dataclass(frozen=True)
class ReverseProblems:
    """The task `reverse`: every string of digits is equally likely."""

    task: Reverse
    end = ""
    scored_by: ClassVar[Literal["exact_match"]] = "exact_match"
    place = "digit"

    @property
    def in_words(self) -> str:
        return f"{self.task.digits} digits (`{'123456789'[: self.task.digits]}=`) answered backwards"

    @property
    def vocabulary(self) -> list[str]:
        return sorted("0123456789=")

    @property
    def places(self) -> Sequence[str]:
        return [f"{place}." for place in range(1, self.task.digits + 1)]

    @property
    def strata(self) -> dict[str, Sequence[int]]:
        """How many different digits there are."""
        return {"distinct": range(1, min(10, self.task.digits) + 1)}

    def splits(self) -> dict[str, pd.DataFrame]:
        sizes = [getattr(self.task, f"{split}_size") for split in SPLITS]
        existing = 10**self.task.digits
        if sum(sizes) > existing:
            raise Refused(
                f"task: more examples asked for than exist: {sum(sizes)} strings of {self.task.digits} digits, of "
                f"which there are {existing}"
            )
        generator = np.random.default_rng(self.task.seed)
        if self.task.digits <= MOST_DIGITS_ENUMERATED:
            numbers = generator.permutation(existing)[: sum(sizes)]
        else:
            numbers = np.zeros(0, dtype=np.int64)
            while len(numbers) < sum(sizes):
                drawn = np.concatenate((numbers, generator.integers(0, existing, sum(sizes))))
                numbers = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
            numbers = numbers[: sum(sizes)]
        return dict(zip(SPLITS, map(self._table, np.split(numbers, np.cumsum(sizes)[:-1])), strict=True))

    def enumerated(self) -> tuple[pd.DataFrame, Float[np.ndarray, " problems"]] | None:
        if self.task.digits > MOST_DIGITS_ENUMERATED:
            return None
        existing = 10**self.task.digits
        return self._table(np.arange(existing)), np.full(existing, 1.0 / existing)

    def _table(self, numbers: Int[np.ndarray, " problems"]) -> pd.DataFrame:
        digits = pd.Series(numbers).astype(str).str.zfill(self.task.digits)
        distinct = digits.map(lambda text: len(set(text))).astype("int64")
        return pd.DataFrame({"prompt": digits + "=", "answer": digits.str[::-1], "distinct": distinct})
