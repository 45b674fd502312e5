"""The input of measurements, and the decorator that declares one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from pipeline.dataset import Examples
from pipeline.params import Ablation
from pipeline.transformer.attention import last_position
from pipeline.transformer.model import Transformer

BATCH = 64
"""Examples computed at a time: as many as fit into a core's cache with all their states."""
FEW_EXAMPLES = 256
"""Random examples that suffice for a mean: it is within 3 % of that of a thousand."""


@dataclass(frozen=True)
class MeasurementInput:
    """One model at one step of its training, and the examples to measure it on.

    All models of a task are measured on the same examples, so that ablations can be compared example by example. None
    of them is a test example.
    """

    model: Transformer
    """The model to measure, in evaluation mode, on the CPU, in float64: float32's rounding depends on the processor and
    on the number of threads, and would show in the digits that are written."""
    ablation: Ablation
    examples: Examples
    """The validation split."""
    random_tokens: Int[Tensor, "examples length"]
    """Tokens drawn independently and uniformly, so that positions differ only because of the model."""

    @property
    def task_tokens(self) -> Int[Tensor, "examples length"]:
        """Tokens of all `examples` of the most common length (of several, the shortest), so that none is padded."""
        lengths = self.examples.lengths
        length = int(np.bincount(lengths).argmax())
        return self.examples[lengths == length].tokens[:, : length - 1]

    @cached_property
    def task_stream(self) -> Float64[Tensor, "depths examples length width"]:
        """The residual stream of `task_tokens`."""
        return residual_stream(self.model, self.task_tokens)

    @cached_property
    def few_random_stream(self) -> Float64[Tensor, "depths examples length width"]:
        """The residual stream of the first `FEW_EXAMPLES` of `random_tokens`."""
        return residual_stream(self.model, self.random_tokens[:FEW_EXAMPLES])

    @cached_property
    def random_stream(self) -> Float64[Tensor, "depths examples length width"]:
        """The residual stream of `random_tokens`."""
        others = residual_stream(self.model, self.random_tokens[FEW_EXAMPLES:])
        return torch.cat((self.few_random_stream, others), dim=1)


@torch.no_grad()
def residual_stream(
    model: Transformer, tokens: Int[Tensor, "examples length"]
) -> Float64[Tensor, "depths examples length width"]:
    """The embeddings and the states after each layer, in a model that predicts after the last of `tokens`."""
    parts = []
    for batch in tokens.split(BATCH):
        samples = model.samples(batch, last_position(batch))
        parts.append(torch.stack(model.residual_stream(samples.tokens, samples.visible)))
    return torch.cat(parts, dim=1)


def draw_random_tokens(examples: int, length: int, vocabulary: int) -> Int[Tensor, "examples length"]:
    """Independent, uniformly drawn tokens, the same in every call."""
    return torch.from_numpy(np.random.default_rng(0).integers(vocabulary, size=(examples, length)))


@dataclass(frozen=True)
class Measurement:
    """A measurement, and how the report shows its table.

    The table has a row per key (depth, layer, position, ...): first the keys, then the columns named in `values`.
    """

    function: Callable[[MeasurementInput], pd.DataFrame]
    title: str
    values: dict[str, str]
    """Column -> description; the first column is the one in the figure."""
    reference: float | None
    """Value of the first column when there is no effect, if that is a single number."""
    along_training: bool
    """True: it is taken at every snapshot too; false: only before and after training."""
    counts_answers: bool
    """True: it counts correct answers, and does not apply to tasks scored in bits."""

    @property
    def name(self) -> str:
        """Name of the measurement and of its table."""
        return self.function.__name__

    def __call__(self, inputs: MeasurementInput) -> pd.DataFrame:
        """Return the table of one model."""
        return self.function(inputs)

    @property
    def explanation(self) -> str:
        """The first paragraph of the function's docstring."""
        return " ".join((self.function.__doc__ or "").split("\n\n")[0].split())


def measurement(
    title: str,
    values: dict[str, str],
    *,
    reference: float | None = None,
    along_training: bool = False,
    counts_answers: bool = False,
) -> Callable[[Callable[[MeasurementInput], pd.DataFrame]], Measurement]:
    """Decorator that makes a function a `Measurement`; the arguments are its fields."""
    return lambda function: Measurement(function, title, values, reference, along_training, counts_answers)
