"""Which layers' causal masks the prediction feels."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor

from pipeline.measurement.registry import MeasurementInput, measurement
from pipeline.measurement.symmetry import permuted_prompts, total_variation
from pipeline.measurement.tables import tidy


@measurement(
    "Which layers' masks matter?",
    {
        "max_logit_change": "largest change of a logit without the layer's causal mask",
        "total_variation": "mean total variation between predictions",
    },
    reference=0.0,
)
@torch.no_grad()
def masks(subject: MeasurementInput) -> pd.DataFrame:
    """How much the prediction after a prompt changes when one layer's causal mask is taken away, in float64. The mask
    of the last layer cannot matter: only its last position is read, which sees all positions anyway. So whatever a
    residual connection does there, it does not keep positions for later attention. Nothing of models without a mask."""
    model, prompts = subject.model, permuted_prompts(subject.examples).prompts
    last = torch.full((len(prompts), 1), prompts.shape[1] - 1)
    visible = model.samples(prompts, last).visible.repeat(len(model.blocks), 1, 1, 1)

    def logits(*unmasked: int) -> Float64[Tensor, "prompts 1 vocabulary"]:
        seen = visible.clone()
        seen[list(unmasked)] = True
        return model.logits(model.residual_stream(prompts, seen, last)[-1])

    before = logits()
    without = [logits(layer) for layer in range(len(model.blocks)) if subject.ablation.model.attention == "causal"]
    return tidy(
        ("layer",),
        max_logit_change=np.array([(after - before).abs().max() for after in without]),
        total_variation=np.array([total_variation(before, after).mean() for after in without]),
    )
