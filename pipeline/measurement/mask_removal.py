"""Mask removal: which layers' causal masks affect the prediction?"""

import pandas as pd
import torch

from pipeline.measurement.common.interventions import ForwardPass, same_length_prompts, total_variation
from pipeline.measurement.registry import MeasurementInput, measurement
from pipeline.transformer.attention import last_position


@measurement(
    "Which layers' masks matter?",
    {
        "max_logit_change": "largest change of a logit without the layer's causal mask",
        "total_variation": "mean total variation between predictions",
    },
    no_effect_value=0.0,
)
def mask_removal(inputs: MeasurementInput) -> pd.DataFrame:
    """Change of the prediction after a prompt when one layer's causal mask is removed, in float64. Removing the last
    layer's mask changes nothing: only the last position predicts, and it attends to all positions anyway. So a residual
    connection of the last layer cannot matter by keeping positions for later attention.

    The table has no row for layers with full attention.
    """
    model, prompts = inputs.model, same_length_prompts(inputs.examples)
    before = ForwardPass(model, prompts, last_position(prompts))
    mask = before.samples.attention_mask
    masks = mask.expand(len(model.blocks), *mask.shape[-3:])
    rows = []
    for layer in (layer for layer, name in enumerate(model.attention_by_layer) if name == "causal"):
        after = before.continue_from(layer, attention_mask=masks.index_fill(0, torch.tensor(layer), True))
        change = (after - before.logits).abs().max().item()
        rows.append((layer, change, total_variation(before.logits, after).mean().item()))
    return pd.DataFrame(rows, columns=["layer", "max_logit_change", "total_variation"])
