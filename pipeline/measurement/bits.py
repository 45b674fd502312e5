"""How many bits a token takes to tell, for who has the model's prediction: its cross-entropy."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float64
from torch import Tensor

from pipeline.dataset.rows import IGNORED, Rows
from pipeline.measurement.accuracy import Predict

ROWS_AT_ONCE = 1024
"""Bounds the memory that the logits take."""


def bits(predict: Predict, rows: Rows) -> Float64[Tensor, " rows"]:
    """Bits per predicted token of each row; NaN where a model's logits are not finite."""
    found = []
    for some in np.array_split(np.arange(len(rows.tokens)), math.ceil(len(rows.tokens) / ROWS_AT_ONCE)):
        tokens, positions, targets = map(torch.from_numpy, rows.asked(some))
        logits = predict(tokens, positions).double()
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
        found.append(nats.view(targets.shape).sum(1) / (targets != IGNORED).sum(1) / math.log(2))
    return torch.cat(found)
