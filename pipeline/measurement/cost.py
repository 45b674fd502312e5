"""What a training step costs."""

import pandas as pd
from torch.utils.flop_counter import FlopCounterMode

from pipeline.measurement.registry import MeasurementInput, measurement


@measurement("What does a training step cost?", {"flops_per_step": "FLOPs of one member's training step"})
def cost(subject: MeasurementInput) -> pd.DataFrame:
    """Floating-point operations of one training step of one member, forward and backward, in its matrix products (a
    multiplication and an addition are two)."""
    training, example = subject.ablation.training, subject.examples[:1]
    example = example if training.loss_on == "answer" else example.at_all_positions()
    counter = FlopCounterMode(display=False)
    subject.model.train()  # without the reference rows that an evaluation may need
    with counter:  # the count does not depend on the tokens, and grows in proportion to the rows
        subject.model(example.tokens, example.positions).sum().backward()
    subject.model.eval().zero_grad(set_to_none=True)
    return pd.DataFrame([{"flops_per_step": counter.get_total_flops() * training.batch_size}])
