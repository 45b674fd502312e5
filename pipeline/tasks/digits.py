"""Strings of digits: answered backwards (`12345=54321`, the simplest task in which order is everything), sorted (its
twin, in which order is worth nothing), or asked for the one at a place (`12345c=3`)."""

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from math import comb, factorial, prod
from string import ascii_lowercase

import numpy as np
import pandas as pd
from jaxtyping import Float

from pipeline.params.task import Index, Reverse, Sort
from pipeline.tasks.words import MOST_ENUMERATED, Symbols, Words, distinct

EXAMPLE = "123456789123456789"


class Digits(Words):
    """Every string of digits is equally likely."""

    task: Reverse | Sort | Index
    alphabet = "0123456789"

    @property
    def length(self) -> int:
        return self.task.digits


class ReverseProblems(Digits):
    """The task `reverse`."""

    place = "digit"

    @property
    def in_words(self) -> str:
        return f"{self.length} digits (`{EXAMPLE[: self.length]}=`) answered backwards"

    @property
    def places(self) -> Sequence[str]:
        return [f"{place}." for place in range(1, self.length + 1)]

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """How many different digits there are."""
        return {"distinct": range(1, min(10, self.length) + 1)}

    def table(self, symbols: Symbols) -> pd.DataFrame:
        answers = self.words(self.answered(symbols))
        return pd.DataFrame({"prompt": self.words(symbols) + "=", "answer": answers, "distinct": distinct(symbols)})

    def answered(self, symbols: Symbols) -> Symbols:
        """The digits of the answers."""
        return symbols[:, ::-1]


class SortProblems(ReverseProblems):
    """The task `sort`: as `reverse`, but what is asked does not depend on the order."""

    @property
    def in_words(self) -> str:
        return f"{self.length} digits (`{EXAMPLE[: self.length][::-1]}=`) sorted"

    def answered(self, symbols: Symbols) -> Symbols:
        return np.sort(symbols, axis=1)


class IndexProblems(Digits):
    """The task `index`: a word is the digits, and which of them is asked for."""

    place = "digit"

    @property
    def in_words(self) -> str:
        return f"the digit of {self.task.digits} at a place (`{EXAMPLE[: self.task.digits]}b=`, the second)"

    @property
    def vocabulary(self) -> list[str]:
        return sorted({*self.alphabet, *ascii_lowercase[: self.task.digits], "="})

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """Which place is asked for, from 1."""
        return {"place": range(1, self.task.digits + 1)}

    @property
    def _existing(self) -> int:
        return self.task.digits * 10**self.task.digits

    def table(self, symbols: Symbols) -> pd.DataFrame:
        asked, digits = symbols[:, 0], symbols[:, 1:]
        letters = pd.Series(np.array(list(ascii_lowercase))[asked])
        answers = self.words(np.take_along_axis(digits, asked[:, None], axis=1))
        return pd.DataFrame({"prompt": self.words(digits) + letters + "=", "answer": answers, "place": asked + 1})

    def enumerated(self) -> tuple[pd.DataFrame, Float[np.ndarray, " problems"]] | None:
        """Where they are many, of all orders of the same digits the rotations of one, with the weight of all: at every
        place they say each digit as often."""
        length, orders = self.task.digits, factorial(self.task.digits)
        if self._existing <= MOST_ENUMERATED or comb(length + 9, 9) * length**2 > MOST_ENUMERATED:
            return super().enumerated()
        kept = np.array(list(combinations_with_replacement(range(10), length)))
        alike = [prod(factorial(count) for count in np.bincount(digits)) for digits in kept]
        rotated = np.concatenate([np.roll(kept, by, axis=1) for by in range(length)])
        symbols = [np.insert(rotated, 0, place, axis=1) for place in range(length)]
        weight = np.tile(orders / np.array(alike) / length / self._existing, length**2)
        return self.table(np.concatenate(symbols)), weight

    def _symbols(self, numbers: np.ndarray) -> Symbols:
        asked, digits = np.divmod(numbers, 10**self.task.digits)
        return np.column_stack((asked, super()._symbols(digits)))
