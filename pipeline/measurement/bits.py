"""How many bits a token takes to tell, for who has the model's prediction: its cross-entropy."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float64
from torch import Tensor

from pipeline.dataset import IGNORED, Examples
from pipeline.measurement.accuracy import Predict

ROWS_AT_ONCE = 1024
"""Bounds the memory that the logits take."""


def bits(predict: Predict, examples: Examples) -> Float64[Tensor, " examples"]:
    """Bits per predicted token of each example; NaN where a model's logits are not finite."""
    found = []
    for index in torch.arange(len(examples)).tensor_split(math.ceil(len(examples) / ROWS_AT_ONCE)):
        batch = examples[index]
        logits, targets = predict(batch.tokens, batch.positions).double(), batch.targets
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
        found.append(nats.view(targets.shape).sum(1) / (targets != IGNORED).sum(1) / math.log(2))
    return torch.cat(found)
