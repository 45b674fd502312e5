"""Two parity tasks on bit strings: `paridy`, for which order matters, and its order-free control `parity`."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Int
from pydantic import Field

from pipeline.params.task import OrderFree
from pipeline.tasks.words import Symbols, Words


class Bits(Words):
    """A string of `bits` bits, and a parity."""

    alphabet: ClassVar[str] = "01"
    counted_words: ClassVar[str]
    bits: Annotated[int, Field(ge=2, le=60)] = 12

    @property
    def length(self) -> int:
        return self.bits

    @property
    def words(self) -> str:
        return f"the parity of the {self.counted_words} {self.length} bits (`{('0110' * self.length)[: self.length]}=`)"

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """The number of 1s."""
        return {"ones": range(self.length + 1)}

    def table(self, symbols: Symbols) -> pd.DataFrame:
        answers = (self.counted(symbols) % 2).astype(str)
        return pd.DataFrame({"prompt": self.as_text(symbols) + "=", "answer": answers, "ones": symbols.sum(1)})

    @abstractmethod
    def counted(self, symbols: Symbols) -> Int[np.ndarray, " examples"]:
        """The number whose parity is the answer."""


class Paridy(Bits):
    """The number of 0s between the first and the last 1, modulo 2."""

    counted_words: ClassVar[str] = "0s between the first and the last 1 of"
    name: Literal["paridy"]

    def counted(self, symbols: Symbols) -> Int[np.ndarray, " examples"]:
        begun = np.maximum.accumulate(symbols, axis=1)
        not_over = np.maximum.accumulate(symbols[:, ::-1], axis=1)[:, ::-1]
        return ((symbols == 0) & (begun == 1) & (not_over == 1)).sum(1)


class Parity(Bits, OrderFree):
    """The number of 1s, modulo 2: the order-free control of `paridy`."""

    counted_words: ClassVar[str] = "1s in"
    name: Literal["parity"]

    def counted(self, symbols: Symbols) -> Int[np.ndarray, " examples"]:
        return symbols.sum(1)
