"""Two parity tasks on bit strings: `paridy`, for which order matters, and its order-free control `parity`."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Int
from pydantic import Field

from pipeline.params.task import OrderFreeTask
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
        return f"the parity of the {self.counted_label} {self.length} bits (`{('0110' * self.length)[: self.length]}=`)"

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """Return the values of the column `ones`, the number of 1s in the prompt."""
        return {"ones": range(self.length + 1)}

    def build_table(self, symbols: SymbolIndices) -> pd.DataFrame:
        answers = (self.count_relevant_bits(symbols) % 2).astype(str)
        return pd.DataFrame({"prompt": self.to_text(symbols) + "=", "answer": answers, "ones": symbols.sum(1)})

    @abstractmethod
    def count_relevant_bits(self, symbols: SymbolIndices) -> Int[np.ndarray, " examples"]:
        """Return the number whose parity is the answer, for each string."""


class ParityOfInnerZeros(BitStringTask):
    """Task `paridy`: the parity of the number of 0s between the first and the last 1, as in `0100110=0`."""

    counted_label: ClassVar[str] = "0s between the first and the last 1 of"
    name: Literal["paridy"]

    def count_relevant_bits(self, symbols: SymbolIndices) -> Int[np.ndarray, " examples"]:
        after_a_one = np.maximum.accumulate(symbols, axis=1)
        before_a_one = np.maximum.accumulate(symbols[:, ::-1], axis=1)[:, ::-1]
        return ((symbols == 0) & (after_a_one == 1) & (before_a_one == 1)).sum(1)


class ParityOfOnes(BitStringTask, OrderFreeTask):
    """Task `parity`: the parity of the number of 1s, as in `0100110=1`; the order-free control of `paridy`."""

    counted_label: ClassVar[str] = "1s in"
    name: Literal["parity"]

    def count_relevant_bits(self, symbols: SymbolIndices) -> Int[np.ndarray, " examples"]:
        return symbols.sum(1)
