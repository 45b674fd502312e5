"""How different the states of one row's positions are."""

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.measurement.registry import Subject, measurement
from pipeline.measurement.tables import tidy


@measurement("How many directions does a row span?", {"effective_rank": "effective rank"}, along_training=True)
def effective_rank(subject: Subject) -> pd.DataFrame:
    """Effective rank of the residual stream at each depth, of one row's positions, averaged over random rows: 1 where
    all positions say the same, at most the number of positions (Roy, Vetterli, EUSIPCO 2007)."""
    return tidy(("depth",), effective_rank=rank(subject.stream(subject.random)).mean(-1))


def rank(states: Float[Tensor, "*many length width"]) -> Float[Tensor, "*many"]:
    """exp of the entropy of the normalised singular values of each matrix."""
    values = torch.linalg.svdvals(states.double())
    share = values / values.sum(-1, keepdim=True)
    return torch.special.entr(share).sum(-1).exp()
