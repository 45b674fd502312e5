"""Cost of a training step."""

from typing import Any

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pipeline.measurement.registry import MeasurementInput, measurement


@measurement("What does a training step cost?", {"flops_per_step": "FLOPs of one run's training step"})
@torch.enable_grad()
def cost(inputs: MeasurementInput) -> pd.DataFrame:
    """Floating-point operations of one run's training step, forward and backward, in matrix products (a multiplication
    and an addition are two)."""
    training, example = inputs.ablation.training, inputs.examples[:1]
    example = example if training.loss_on == "answer" else example.with_all_targets()
    counter = MatrixProductCounter()
    inputs.model.train()  # an evaluation would count the fixed donors too
    with counter:  # one example suffices: the count is proportional to the examples and independent of the tokens
        inputs.model(example.tokens, example.positions).sum().backward()
    inputs.model.eval().zero_grad(set_to_none=True)
    return pd.DataFrame([{"flops_per_step": counter.flops * training.batch_size}])


class MatrixProductCounter(TorchDispatchMode):
    """Context manager that counts floating-point operations, as torch's `FlopCounterMode`, which imports the compiler.

    That import takes longer than all counting of an ablation.
    """

    flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, so that the compiler, dynamo, is not needed to prevent it

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if count := flop_registry.get(function.overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=output)
        return output
