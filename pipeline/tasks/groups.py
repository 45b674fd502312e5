"""Tasks that ask for a product in a group of six elements: in the symmetric group (`s3`), where order matters, and in
the cyclic group (`z6`, the order-free control of `s3`). Only the multiplication table differs."""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Int
from pydantic import Field

from pipeline.params.task import OrderFreeTask
from pipeline.tasks.strings import StringTask, SymbolIndices

GROUP_SIZE = 6
"""Number of elements of either group."""
PERMUTATIONS = list(permutations(range(3)))
"""Elements of the symmetric group S3: element i is written as letter i of `abcdef`, and `a` is the identity."""
S3_TABLE = np.array([[PERMUTATIONS.index(tuple(p[i] for i in q)) for q in PERMUTATIONS] for p in PERMUTATIONS])
"""Multiplication table of S3: entry [i, j] applies permutation j first, then permutation i."""
Z6_TABLE = np.add.outer(np.arange(GROUP_SIZE), np.arange(GROUP_SIZE)) % GROUP_SIZE
"""Multiplication table of the cyclic group Z6: entry [i, j] is i + j modulo 6."""


class GroupProduct(StringTask):
    """Base class of tasks that ask for the product of `elements` elements of a group, written as letters."""

    alphabet: ClassVar[str] = "abcdef"
    multiplication_table: ClassVar[Int[np.ndarray, "left right"]]
    group_name: ClassVar[str]
    elements: Annotated[int, Field(ge=2, le=20)]

    @property
    def length(self) -> int:
        return self.elements

    @property
    def description(self) -> str:
        return (
            f"the product of {self.length} elements of the {self.group_name} (`{(self.alphabet * 2)[: self.length]}=`)"
        )

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """Return the values of the column `product`, the index of the answer in the alphabet."""
        return {"product": range(GROUP_SIZE)}

    def build_table(self, symbols: SymbolIndices) -> pd.DataFrame:
        product = symbols[:, 0]
        for factor in symbols.T[1:]:
            product = self.multiplication_table[product, factor]
        answers = self.to_text(product[:, None])
        return pd.DataFrame({"prompt": self.to_text(symbols) + "=", "answer": answers, "product": product})


class SymmetricGroupProduct(GroupProduct):
    """Task `s3`: the product of elements of the symmetric group S3, as in `aaaf=f`."""

    multiplication_table: ClassVar[Int[np.ndarray, "left right"]] = S3_TABLE
    group_name: ClassVar[str] = "symmetric group S3"
    name: Literal["s3"]


class CyclicGroupProduct(GroupProduct, OrderFreeTask):
    """Task `z6`: the product of elements of the cyclic group Z6, as in `bcde=e`; the order-free control of `s3`."""

    multiplication_table: ClassVar[Int[np.ndarray, "left right"]] = Z6_TABLE
    group_name: ClassVar[str] = "cyclic group Z6"
    name: Literal["z6"]
