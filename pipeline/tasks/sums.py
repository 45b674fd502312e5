"""Five digits and a remainder: `modp`, for which order matters, and its order-free control `mod3`. After later
experiments of the paper's authors."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Int

from pipeline.params.task import OrderFree
from pipeline.tasks.words import Symbols, Words

LAST, MODULUS = 3, 3


class Sums(Words):
    """Five digits, of which some are added and divided by 3; the answer is the remainder."""

    alphabet: ClassVar[str] = "0123456789"
    framing: ClassVar[str] = "modp()"

    @property
    def length(self) -> int:
        return 5

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """The remainder."""
        return {"remainder": range(MODULUS)}

    def table(self, symbols: Symbols) -> pd.DataFrame:
        remainders = self.added(symbols).sum(1) % MODULUS
        prompts = self.prompts(self.as_text(symbols))
        return pd.DataFrame({"prompt": prompts, "answer": remainders.astype(str), "remainder": remainders})

    @abstractmethod
    def prompts(self, digits: pd.Series) -> pd.Series:
        """The prompts that ask about these digits."""

    @abstractmethod
    def added(self, symbols: Symbols) -> Int[np.ndarray, "examples added"]:
        """The digits that are added."""


class Modp(Sums):
    """The sum of the last three digits modulo 3, as in `83modp(380)=2`: the digits before the bracket do not count."""

    name: Literal["modp"]

    @property
    def words(self) -> str:
        return "the sum of the three digits in brackets modulo 3 (`83modp(380)=`)"

    def prompts(self, digits: pd.Series) -> pd.Series:
        return digits.str[:-LAST] + "modp(" + digits.str[-LAST:] + ")="

    def added(self, symbols: Symbols) -> Int[np.ndarray, "examples added"]:
        return symbols[:, -LAST:]


class Mod3(Sums, OrderFree):
    """The sum of all digits modulo 3, as in `mod3(83380)=1`: the order-free control of `modp`."""

    name: Literal["mod3"]

    @property
    def words(self) -> str:
        return "the sum of five digits modulo 3 (`mod3(83380)=`)"

    def prompts(self, digits: pd.Series) -> pd.Series:
        return "mod3(" + digits + ")="

    def added(self, symbols: Symbols) -> Int[np.ndarray, "examples added"]:
        return symbols
