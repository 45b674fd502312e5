"""Products in a group of six elements: `s3`, in the symmetric group, for which order matters, and its order-free
control `z6`, in the cyclic group. Only the multiplication table differs."""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from jaxtyping import Int
from pydantic import Field

from pipeline.params.task import OrderFree
from pipeline.tasks.words import Symbols, Words

ORDER = 6
PERMUTATIONS = list(permutations(range(3)))
"""The elements of S3; `a` is the identity."""
S3_TABLE = np.array([[PERMUTATIONS.index(tuple(p[i] for i in q)) for q in PERMUTATIONS] for p in PERMUTATIONS])
"""Product of two permutations: the right one is applied first."""
Z6_TABLE = np.add.outer(np.arange(ORDER), np.arange(ORDER)) % ORDER


class Product(Words):
    """The product of `elements` elements of a group."""

    alphabet: ClassVar[str] = "abcdef"
    products: ClassVar[Int[np.ndarray, "left right"]]
    group: ClassVar[str]
    elements: Annotated[int, Field(ge=2, le=20)]

    @property
    def length(self) -> int:
        return self.elements

    @property
    def words(self) -> str:
        return f"the product of {self.length} elements of the {self.group} (`{(self.alphabet * 2)[: self.length]}=`)"

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """The index of the product in the alphabet."""
        return {"product": range(ORDER)}

    def table(self, symbols: Symbols) -> pd.DataFrame:
        product = symbols[:, 0]
        for factor in symbols.T[1:]:
            product = self.products[product, factor]
        answers = self.as_text(product[:, None])
        return pd.DataFrame({"prompt": self.as_text(symbols) + "=", "answer": answers, "product": product})


class S3(Product):
    """The product in the symmetric group S3."""

    products: ClassVar[Int[np.ndarray, "left right"]] = S3_TABLE
    group: ClassVar[str] = "symmetric group S3"
    name: Literal["s3"]


class Z6(Product, OrderFree):
    """The product in the cyclic group Z6: the order-free control of `s3`."""

    products: ClassVar[Int[np.ndarray, "left right"]] = Z6_TABLE
    group: ClassVar[str] = "cyclic group Z6"
    name: Literal["z6"]
