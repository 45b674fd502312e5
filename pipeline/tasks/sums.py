"""Tasks that ask for a sum of digits modulo 3: of the last three (`modp`), where order matters, or of all five (`mod3`,
the order-free control of `modp`). Both follow later experiments of the paper's authors."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import pandas as pd

from pipeline.tasks.strings import StringTask, SymbolIndices


class DigitSum(StringTask):
    """Base class of tasks that add some of five digits; the answer is the sum modulo 3."""

    extra_characters: ClassVar[str] = "modp()"
    length: ClassVar[int] = 5
    summand_count: ClassVar[int]
    """Number of digits that are added: the last ones."""
    strata: ClassVar[Mapping[str, Sequence[int]]] = {"remainder": range(3)}
    """The answer as a number."""

    def build_table(self, symbols: SymbolIndices) -> pd.DataFrame:
        remainders = symbols[:, -self.summand_count :].sum(1) % 3
        digits, first = self.to_text(symbols), self.length - self.summand_count
        prompts = digits.str[:first] + f"{self.name}(" + digits.str[first:] + ")="
        return pd.DataFrame({"prompt": prompts, "answer": remainders.astype(str), "remainder": remainders})


class BracketedDigitSum(DigitSum):
    """Task `modp`: the sum of the three digits in brackets modulo 3, as in `83modp(380)=2`."""

    name: Literal["modp"]
    description: ClassVar[str] = "the sum of the three digits in brackets modulo 3 (`83modp(380)=`)"
    summand_count: ClassVar[int] = 3


class AllDigitSum(DigitSum):
    """Task `mod3`: the sum of all five digits modulo 3, as in `mod3(83380)=1`; the order-free control of `modp`."""

    name: Literal["mod3"]
    description: ClassVar[str] = "the sum of five digits modulo 3 (`mod3(83380)=`)"
    order_matters: ClassVar[bool] = False
    summand_count: ClassVar[int] = 5
