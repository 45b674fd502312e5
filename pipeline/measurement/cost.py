"""Cost of a training step."""

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.measurement.registry import MeasurementInput, measurement


@measurement("What does a training step cost?", {"flops_per_step": "FLOPs of one run's training step"})
@torch.enable_grad()
def cost(inputs: MeasurementInput) -> pd.DataFrame:
    """Floating-point operations of one run's training step, forward and backward, in matrix products (a multiplication
    and an addition are two)."""
    training, example = inputs.ablation.training, inputs.examples[:1]
    example = example if training.loss_on == "answer" else example.with_all_targets()
    counter = FlopCounterMode(display=False)
    inputs.model.train()  # an evaluation would count the fixed donors too
    with counter:  # one example suffices: the count is proportional to the examples and independent of the tokens
        inputs.model(example.tokens, example.positions).sum().backward()
    inputs.model.eval().zero_grad(set_to_none=True)
    return pd.DataFrame([{"flops_per_step": counter.get_total_flops() * training.batch_size}])
