"""How different the states of one row's positions are."""

import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor

from pipeline.measurement.registry import MeasurementInput, measurement
from pipeline.measurement.tables import tidy

ROUNDING = 1e-13
"""Eigenvalues of a Gram matrix below this share of its largest are what rounding (float64) leaves of 0."""


@measurement("How many directions does a row span?", {"effective_rank": "effective rank"}, along_training=True)
def effective_rank(subject: MeasurementInput) -> pd.DataFrame:
    """Effective rank of the residual stream at each depth, of one row's positions, averaged over random rows: 1 where
    all positions say the same, at most the number of positions (Roy, Vetterli, EUSIPCO 2007)."""
    return tidy(("depth",), effective_rank=rank(subject.few_random_stream).mean(-1))


def rank(states: Float64[Tensor, "*many length width"]) -> Float64[Tensor, "*many"]:
    """exp of the entropy of the normalised singular values of each matrix: the roots of the eigenvalues of its Gram
    matrix, which are found three times as fast."""
    squares = torch.linalg.eigvalsh(states @ states.mT)
    values = squares.where(squares > ROUNDING * squares[..., -1:], 0.0).sqrt()
    share = values / values.sum(-1, keepdim=True)
    return torch.special.entr(share).sum(-1).exp()
