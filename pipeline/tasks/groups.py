"""Tasks that ask for a product in a group of six elements: in the symmetric group (`s3`), where order matters, and in
the cyclic group (`z6`, the order-free control of `s3`). Only the multiplication table differs."""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Int
from pydantic import Field

from pipeline.tasks.strings import StringTask, SymbolIndices

GROUP_SIZE = 6
"""Number of elements of either group."""
PERMUTATIONS = list(permutations(range(3)))
"""Elements of the symmetric group S3: element i is written as letter i of `abcdef`, and `a` is the identity."""


class GroupProduct(StringTask):
    """Base class of tasks that ask for the product of `elements` elements of a group, written as letters."""

    alphabet: ClassVar[str] = "abcdef"
    multiplication_table: ClassVar[Int[np.ndarray, "left right"]]
    group_name: ClassVar[str]
    strata: ClassVar[Mapping[str, Sequence[int]]] = {"product": range(GROUP_SIZE)}
    """The index of the answer in the alphabet."""
    elements: Annotated[int, Field(ge=2, le=20)]

    @property
    def length(self) -> int:
        return self.elements

    @property
    def description(self) -> str:
        example = (self.alphabet * 2)[: self.elements]
        return f"the product of {self.elements} elements of the {self.group_name} (`{example}=`)"

    def build_table(self, symbols: SymbolIndices) -> pd.DataFrame:
        product = symbols[:, 0]
        for factor in symbols.T[1:]:
            product = self.multiplication_table[product, factor]
        answers = self.to_text(product[:, None])
        return pd.DataFrame({"prompt": self.to_text(symbols) + "=", "answer": answers, "product": product})


class SymmetricGroupProduct(GroupProduct):
    """Task `s3`: the product of elements of the symmetric group S3, as in `aaaf=f`.

    Entry [i, j] of the multiplication table applies permutation j first, then permutation i.
    """

    name: Literal["s3"]
    group_name: ClassVar[str] = "symmetric group S3"
    multiplication_table: ClassVar[Int[np.ndarray, "left right"]] = np.array(
        [[PERMUTATIONS.index(tuple(p[i] for i in q)) for q in PERMUTATIONS] for p in PERMUTATIONS]
    )


class CyclicGroupProduct(GroupProduct):
    """Task `z6`: the product of elements of the cyclic group Z6, as in `bcde=e`; the order-free control of `s3`."""

    name: Literal["z6"]
    group_name: ClassVar[str] = "cyclic group Z6"
    order_matters: ClassVar[bool] = False
    multiplication_table: ClassVar[Int[np.ndarray, "left right"]] = (
        np.add.outer(np.arange(GROUP_SIZE), np.arange(GROUP_SIZE)) % GROUP_SIZE
    )
