"""Effective rank: how many directions do the states of one example's positions span?"""

import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor

from pipeline.measurement.common.tables import tidy
from pipeline.measurement.registry import MeasurementInput, measurement

ROUNDING = 1e-13
"""Eigenvalues of a Gram matrix below this share of the largest are rounding errors (float64) of 0."""


@measurement(
    "How many directions do an example's states span?", {"effective_rank": "effective rank"}, along_training=True
)
def effective_rank(inputs: MeasurementInput) -> pd.DataFrame:
    """Effective rank (Roy, Vetterli, EUSIPCO 2007) of the states of one example's positions at each depth, averaged
    over random examples: 1 if the states of all positions are proportional, at most the number of positions."""
    return tidy(("depth",), effective_rank=matrix_effective_rank(inputs.few_random_stream).mean(-1))


def matrix_effective_rank(states: Float64[Tensor, "*many length width"]) -> Float64[Tensor, "*many"]:
    """exp of the entropy of each matrix's normalised singular values.

    They are square roots of the eigenvalues of the Gram matrix, which take a third of the time of an SVD.
    """
    squares = torch.linalg.eigvalsh(states @ states.mT)
    values = squares.where(squares > ROUNDING * squares[..., -1:], 0.0).sqrt()
    share = values / values.sum(-1, keepdim=True)
    return torch.special.entr(share).sum(-1).exp()
