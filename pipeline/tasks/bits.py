"""Bits and a parity: of the 1s, for which order does not count, or of the 0s between the first 1 and the last one, of
which there are none where there are no two 1s (`paridy`: it takes the order)."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int

from pipeline.params.task import Bits
from pipeline.tasks.words import Symbols, Words


class ParityProblems(Words):
    """The task `parity`."""

    task: Bits
    alphabet = "01"

    @property
    def length(self) -> int:
        return self.task.bits

    @property
    def in_words(self) -> str:
        return f"the parity of the 1s in {self.length} bits (`{('0110' * self.length)[: self.length]}=`)"

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """How many 1s there are."""
        return {"ones": range(self.length + 1)}

    def table(self, symbols: Symbols) -> pd.DataFrame:
        answers = (self.counted(symbols) % 2).astype(str)
        return pd.DataFrame({"prompt": self.words(symbols) + "=", "answer": answers, "ones": symbols.sum(1)})

    def counted(self, symbols: Symbols) -> Int[np.ndarray, " problems"]:
        """How many bits there are of those whose parity is asked for."""
        return symbols.sum(1)


class ParidyProblems(ParityProblems):
    """The task `paridy`."""

    @property
    def in_words(self) -> str:
        shown = ("0110" * self.length)[: self.length]
        return f"the parity of the 0s between the first and the last 1 of {self.length} bits (`{shown}=`)"

    def counted(self, symbols: Symbols) -> Int[np.ndarray, " problems"]:
        begun = np.maximum.accumulate(symbols, axis=1)
        not_over = np.maximum.accumulate(symbols[:, ::-1], axis=1)[:, ::-1]
        return ((symbols == 0) & (begun == 1) & (not_over == 1)).sum(1)
