"""Two parity tasks on bit strings: `paridy`, for which order matters, and its order-free control `parity`."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool
from pydantic import Field

from pipeline.tasks.strings import StringTask, SymbolIndices


class BitStringTask(StringTask):
    """Base class of tasks that ask for a parity in a string of `bits` bits, as in `0110=0`."""

    alphabet: ClassVar[str] = "01"
    counted_label: ClassVar[str]
    """The counted bits, in words, for the description of the task."""
    bits: Annotated[int, Field(ge=2, le=60)] = 12

    @property
    def length(self) -> int:
        return self.bits

    @property
    def description(self) -> str:
        return f"the parity of the {self.counted_label} {self.bits} bits (`{('0110' * self.bits)[: self.bits]}=`)"

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """The number of 1s in the prompt."""
        return {"ones": range(self.bits + 1)}

    def build_table(self, symbols: SymbolIndices) -> pd.DataFrame:
        answers = (self.find_counted_bits(symbols).sum(1) % 2).astype(str)
        return pd.DataFrame({"prompt": self.to_text(symbols) + "=", "answer": answers, "ones": symbols.sum(1)})

    @abstractmethod
    def find_counted_bits(self, symbols: SymbolIndices) -> Bool[np.ndarray, "examples length"]:
        """Return True for each bit that is counted; the answer is the parity of their number."""


class ParityOfInnerZeros(BitStringTask):
    """Task `paridy`: the parity of the number of 0s between the first and the last 1, as in `0100110=0`."""

    name: Literal["paridy"]
    counted_label: ClassVar[str] = "0s between the first and the last 1 of"

    def find_counted_bits(self, symbols: SymbolIndices) -> Bool[np.ndarray, "examples length"]:
        after_a_one = np.maximum.accumulate(symbols, axis=1)
        before_a_one = np.maximum.accumulate(symbols[:, ::-1], axis=1)[:, ::-1]
        return (symbols == 0) & (after_a_one == 1) & (before_a_one == 1)


class ParityOfOnes(BitStringTask):
    """Task `parity`: the parity of the number of 1s, as in `0100110=1`; the order-free control of `paridy`."""

    name: Literal["parity"]
    counted_label: ClassVar[str] = "1s in"
    order_matters: ClassVar[bool] = False

    def find_counted_bits(self, symbols: SymbolIndices) -> Bool[np.ndarray, "examples length"]:
        return symbols == 1
