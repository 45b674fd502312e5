"""Mask removal: which layers' causal masks affect the prediction?"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor

from pipeline.measurement.common.permutations import same_length_prompts, total_variation
from pipeline.measurement.common.tables import tidy_table
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
@torch.no_grad()
def mask_removal(inputs: MeasurementInput) -> pd.DataFrame:
    """Change of the prediction after a prompt when one layer's causal mask is removed, in float64. Removing the last
    layer's mask changes nothing: only the last position predicts, and it attends to all positions anyway. So a residual
    connection of the last layer cannot matter by keeping positions for later attention.

    The table is empty for models with full attention.
    """
    model, prompts = inputs.model, same_length_prompts(inputs.examples)
    samples = model.samples(prompts, last_position(prompts))
    masks = samples.attention_mask.repeat(len(model.blocks), 1, 1, 1)

    def logits_without_masks(*unmasked_layers: int) -> Float64[Tensor, "prompts 1 vocabulary"]:
        changed_masks = masks.clone()
        changed_masks[list(unmasked_layers)] = True
        return model.logits(model.residual_stream(prompts, changed_masks, samples.output_positions)[-1])

    before = logits_without_masks()
    layers = range(len(model.blocks)) if inputs.ablation.model.attention == "causal" else ()
    after = [logits_without_masks(layer) for layer in layers]
    return tidy_table(
        ("layer",),
        max_logit_change=np.array([(changed - before).abs().max() for changed in after]),
        total_variation=np.array([total_variation(before, changed).mean() for changed in after]),
    )
