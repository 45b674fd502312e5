"""Elements of a group of six and their product: in the symmetric group S3, for which order counts, or in the cyclic
group Z6, for which it does not. Everything else is the same: only one of the two is commutative."""

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import pandas as pd
from jaxtyping import Int

from pipeline.params.task import Elements
from pipeline.tasks.words import Symbols, Words

ORDER = 6
PERMUTATIONS = list(permutations(range(3)))
"""The elements of S3; `a` is the identity."""
S3_TABLE = np.array([[PERMUTATIONS.index(tuple(p[i] for i in q)) for q in PERMUTATIONS] for p in PERMUTATIONS])
"""Product of two: first the right one, then the left one."""
Z6_TABLE = np.add.outer(np.arange(ORDER), np.arange(ORDER)) % ORDER


class S3Problems(Words):
    """The task `s3`."""

    task: Elements
    alphabet = "abcdef"
    products: Int[np.ndarray, "left right"] = S3_TABLE
    group = "symmetric group S3"

    @property
    def length(self) -> int:
        return self.task.elements

    @property
    def in_words(self) -> str:
        return f"the product of {self.length} elements of the {self.group} (`{(self.alphabet * 2)[: self.length]}=`)"

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        """The product's place among the elements."""
        return {"product": range(ORDER)}

    def table(self, symbols: Symbols) -> pd.DataFrame:
        product = symbols[:, 0]
        for factor in symbols.T[1:]:
            product = self.products[product, factor]
        answers = self.words(product[:, None])
        return pd.DataFrame({"prompt": self.words(symbols) + "=", "answer": answers, "product": product})


class Z6Problems(S3Problems):
    """The task `z6`."""

    products = Z6_TABLE
    group = "cyclic group Z6"
