"""Tasks about strings of digits: write them backwards (`reverse`), sort them (`sort`, the order-free control of
`reverse`), or look up the digit at one position (`index`)."""

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

from pipeline.tasks.strings import MAX_ENUMERATED_EXAMPLES, StringTask, SymbolIndices

EXAMPLE_DIGITS = "123456789123456789"
"""Digits from which the descriptions of tasks take an example of a prompt."""


class DigitsTask(StringTask):
    """Base class of tasks about a string of `digits` digits."""

    answer_unit: ClassVar[str] = "digit"
    digits: int

    @property
    def length(self) -> int:
        return self.digits


class RearrangedDigits(DigitsTask):
    """Base class of tasks whose answers are the digits of the prompt in another order."""

    digits: Annotated[int, Field(ge=1, le=18)]

    @property
    def answer_position_names(self) -> Sequence[str]:
        return [f"{position}." for position in range(1, self.digits + 1)]

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """The number of different digits in the prompt."""
        return {"distinct": range(1, min(10, self.digits) + 1)}

    def build_table(self, symbols: SymbolIndices) -> pd.DataFrame:
        answers = self.to_text(self.rearrange(symbols))
        distinct = 1 + (np.diff(np.sort(symbols, axis=1), axis=1) != 0).sum(1)
        return pd.DataFrame({"prompt": self.to_text(symbols) + "=", "answer": answers, "distinct": distinct})

    @abstractmethod
    def rearrange(self, symbols: SymbolIndices) -> SymbolIndices:
        """Return the digits of each prompt in the order of the answer."""


class ReversedDigits(RearrangedDigits):
    """Task `reverse`: write the digits backwards, as in `12345=54321`."""

    name: Literal["reverse"]

    @property
    def description(self) -> str:
        return f"{self.digits} digits (`{EXAMPLE_DIGITS[: self.digits]}=`) answered backwards"

    def rearrange(self, symbols: SymbolIndices) -> SymbolIndices:
        return symbols[:, ::-1]


class SortedDigits(RearrangedDigits):
    """Task `sort`: write the digits in ascending order, as in `312=123`; the order-free control of `reverse`."""

    name: Literal["sort"]
    order_matters: ClassVar[bool] = False

    @property
    def description(self) -> str:
        return f"{self.digits} digits (`{EXAMPLE_DIGITS[: self.digits][::-1]}=`) sorted"

    def rearrange(self, symbols: SymbolIndices) -> SymbolIndices:
        return np.sort(symbols, axis=1)


class DigitAtPosition(DigitsTask):
    """Task `index`: look up the digit at a position, as in `12345c=3` for the third.

    In an array of symbols, the first column is the position (from 0) and the others are the digits.
    """

    name: Literal["index"]
    digits: Annotated[int, Field(ge=2, le=17)]

    @property
    def description(self) -> str:
        return f"the digit of {self.digits} at a place (`{EXAMPLE_DIGITS[: self.digits]}b=`, the second)"

    @property
    def vocabulary(self) -> list[str]:
        return sorted({*self.alphabet, *ascii_lowercase[: self.digits], "="})

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """The position (from 1) of the requested digit."""
        return {"place": range(1, self.digits + 1)}

    @property
    def example_count(self) -> int:
        return self.digits * super().example_count

    def build_table(self, symbols: SymbolIndices) -> pd.DataFrame:
        position, digits = symbols[:, 0], symbols[:, 1:]
        letters = pd.Series(np.array(list(ascii_lowercase))[position])
        answers = self.to_text(np.take_along_axis(digits, position[:, None], axis=1))
        return pd.DataFrame({"prompt": self.to_text(digits) + letters + "=", "answer": answers, "place": position + 1})

    def enumerate_examples(self) -> tuple[pd.DataFrame, Float[np.ndarray, " examples"]] | None:
        """Return all examples with their probabilities, None where there are too many.

        For more than `MAX_ENUMERATED_EXAMPLES` examples, the rotations of each multiset of digits stand for all orders
        of the multiset: at every position, they have each digit equally often.
        """
        length, orders = self.digits, factorial(self.digits)
        if self.example_count <= MAX_ENUMERATED_EXAMPLES or comb(length + 9, 9) * length**2 > MAX_ENUMERATED_EXAMPLES:
            return super().enumerate_examples()
        multisets = np.array(list(combinations_with_replacement(range(10), length)))
        repetitions = [prod(factorial(count) for count in np.bincount(digits)) for digits in multisets]
        rotated = np.concatenate([np.roll(multisets, shift, axis=1) for shift in range(length)])
        symbols = [np.insert(rotated, 0, position, axis=1) for position in range(length)]
        weight = np.tile(orders / np.array(repetitions) / length / self.example_count, length**2)
        return self.build_table(np.concatenate(symbols)), weight

    def numbers_to_strings(self, numbers: np.ndarray) -> SymbolIndices:
        position, digits = np.divmod(numbers, 10**self.digits)
        return np.column_stack((position, super().numbers_to_strings(digits)))
