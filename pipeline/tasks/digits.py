"""Strings of digits: answered backwards (`reverse`), sorted (`sort`, its order-free control), or asked for the digit at
one position (`index`)."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from math import comb, factorial, prod
from string import ascii_lowercase
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from pydantic import Field

from pipeline.params.task import OrderFree
from pipeline.tasks.words import MOST_ENUMERATED, Symbols, Words, distinct

EXAMPLE = "123456789123456789"


class Rearranged(Words):
    """All of `digits` digits, answered in another order."""

    alphabet: ClassVar[str] = "0123456789"
    answer_unit: ClassVar[str] = "digit"
    digits: Annotated[int, Field(ge=1, le=18)]

    @property
    def length(self) -> int:
        return self.digits

    @property
    def answer_positions(self) -> Sequence[str]:
        return [f"{position}." for position in range(1, self.length + 1)]

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """The number of different digits."""
        return {"distinct": range(1, min(10, self.length) + 1)}

    def table(self, symbols: Symbols) -> pd.DataFrame:
        answers = self.as_text(self.answers(symbols))
        return pd.DataFrame({"prompt": self.as_text(symbols) + "=", "answer": answers, "distinct": distinct(symbols)})

    @abstractmethod
    def answers(self, symbols: Symbols) -> Symbols:
        """The digits in the order of the answer."""


class Reverse(Rearranged):
    """The digits backwards, as in `12345=54321`."""

    name: Literal["reverse"]

    @property
    def words(self) -> str:
        return f"{self.length} digits (`{EXAMPLE[: self.length]}=`) answered backwards"

    def answers(self, symbols: Symbols) -> Symbols:
        return symbols[:, ::-1]


class Sort(Rearranged, OrderFree):
    """The digits in ascending order: the order-free control of `reverse`."""

    name: Literal["sort"]

    @property
    def words(self) -> str:
        return f"{self.length} digits (`{EXAMPLE[: self.length][::-1]}=`) sorted"

    def answers(self, symbols: Symbols) -> Symbols:
        return np.sort(symbols, axis=1)


class Index(Words):
    """The digit at one position of `digits` digits, as in `12345c=3`.

    The first symbol of a word is the position, the others are the digits.
    """

    alphabet: ClassVar[str] = "0123456789"
    answer_unit: ClassVar[str] = "digit"
    name: Literal["index"]
    digits: Annotated[int, Field(ge=2, le=17)]

    @property
    def length(self) -> int:
        return self.digits

    @property
    def words(self) -> str:
        return f"the digit of {self.digits} at a place (`{EXAMPLE[: self.digits]}b=`, the second)"

    @property
    def vocabulary(self) -> list[str]:
        return sorted({*self.alphabet, *ascii_lowercase[: self.digits], "="})

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """The position, counted from 1."""
        return {"place": range(1, self.digits + 1)}

    @property
    def existing(self) -> int:
        return self.digits * 10**self.digits

    def table(self, symbols: Symbols) -> pd.DataFrame:
        position, digits = symbols[:, 0], symbols[:, 1:]
        letters = pd.Series(np.array(list(ascii_lowercase))[position])
        answers = self.as_text(np.take_along_axis(digits, position[:, None], axis=1))
        return pd.DataFrame({"prompt": self.as_text(digits) + letters + "=", "answer": answers, "place": position + 1})

    def enumerated(self) -> tuple[pd.DataFrame, Float[np.ndarray, " examples"]] | None:
        """Enumerate all examples. Where they are too many, the rotations of each multiset of digits stand for all
        its orders: at every position they have each digit equally often."""
        length, orders = self.digits, factorial(self.digits)
        if self.existing <= MOST_ENUMERATED or comb(length + 9, 9) * length**2 > MOST_ENUMERATED:
            return super().enumerated()
        multisets = np.array(list(combinations_with_replacement(range(10), length)))
        repetitions = [prod(factorial(count) for count in np.bincount(digits)) for digits in multisets]
        rotated = np.concatenate([np.roll(multisets, by, axis=1) for by in range(length)])
        symbols = [np.insert(rotated, 0, position, axis=1) for position in range(length)]
        weight = np.tile(orders / np.array(repetitions) / length / self.existing, length**2)
        return self.table(np.concatenate(symbols)), weight

    def symbols(self, numbers: np.ndarray) -> Symbols:
        position, digits = np.divmod(numbers, 10**self.digits)
        return np.column_stack((position, super().symbols(digits)))
