"""Tasks that ask for a sum of digits modulo 3: of the last three (`modp`), where order matters, or of all five (`mod3`,
the order-free control of `modp`). Both follow later experiments of the paper's authors."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Int

from pipeline.params.task import OrderFreeTask
from pipeline.tasks.strings import StringTask, SymbolIndices

BRACKETED_DIGIT_COUNT = 3
"""Number of digits in the brackets of a prompt of the task `modp`."""
MODULUS = 3
"""Divisor of the sum of digits; the answer is the remainder."""


class DigitSum(StringTask):
    """Base class of tasks that add some of five digits; the answer is the sum modulo 3."""

    alphabet: ClassVar[str] = "0123456789"
    extra_characters: ClassVar[str] = "modp()"

    @property
    def length(self) -> int:
        return 5

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """Return the values of the column `remainder`, the answer as a number."""
        return {"remainder": range(MODULUS)}

    def build_table(self, symbols: SymbolIndices) -> pd.DataFrame:
        remainders = self.select_summands(symbols).sum(1) % MODULUS
        prompts = self.format_prompts(self.to_text(symbols))
        return pd.DataFrame({"prompt": prompts, "answer": remainders.astype(str), "remainder": remainders})

    @abstractmethod
    def format_prompts(self, digits: pd.Series) -> pd.Series:
        """Return the prompt of each text of five digits."""

    @abstractmethod
    def select_summands(self, symbols: SymbolIndices) -> Int[np.ndarray, "examples summands"]:
        """Return the digits of each prompt that are added."""


class BracketedDigitSum(DigitSum):
    """Task `modp`: the sum of the three digits in brackets modulo 3, as in `83modp(380)=2`."""

    name: Literal["modp"]

    @property
    def description(self) -> str:
        return "the sum of the three digits in brackets modulo 3 (`83modp(380)=`)"

    def format_prompts(self, digits: pd.Series) -> pd.Series:
        return digits.str[:-BRACKETED_DIGIT_COUNT] + "modp(" + digits.str[-BRACKETED_DIGIT_COUNT:] + ")="

    def select_summands(self, symbols: SymbolIndices) -> Int[np.ndarray, "examples summands"]:
        return symbols[:, -BRACKETED_DIGIT_COUNT:]


class AllDigitSum(DigitSum, OrderFreeTask):
    """Task `mod3`: the sum of all five digits modulo 3, as in `mod3(83380)=1`; the order-free control of `modp`."""

    name: Literal["mod3"]

    @property
    def description(self) -> str:
        return "the sum of five digits modulo 3 (`mod3(83380)=`)"

    def format_prompts(self, digits: pd.Series) -> pd.Series:
        return "mod3(" + digits + ")="

    def select_summands(self, symbols: SymbolIndices) -> Int[np.ndarray, "examples summands"]:
        return symbols
