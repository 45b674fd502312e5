"""The input of a measurement, and the decorator that declares a measurement."""

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

BATCH_SIZE = 64
"""Number of examples computed at a time: as many as fit into a core's cache with all their states."""
FEW_EXAMPLE_COUNT = 256
"""Number of random examples that suffice for a mean, which is within 3 % of the mean of a thousand examples."""


@dataclass(frozen=True)
class MeasurementInput:
    """Input of a measurement: one model at one step of its training, and the examples to measure it on.

    All models of a task are measured on the same examples, so that ablations can be compared example by example. None
    of the examples is a test example.
    """

    model: Transformer
    """The model to measure, in evaluation mode, on the CPU, in float64: float32's rounding depends on the processor and
    on the number of threads, and would show in the digits that are written."""
    ablation: Ablation
    examples: Examples
    """Examples of the validation split."""
    random_tokens: Int[Tensor, "examples length"]
    """Tokens drawn independently and uniformly, so that positions differ only because of the model."""

    @property
    def task_tokens(self) -> Int[Tensor, "examples length"]:
        """Tokens of all validation examples of the most common length (the shortest of several), so without padding."""
        lengths = self.examples.lengths
        length = int(np.bincount(lengths).argmax())
        return self.examples[lengths == length].tokens[:, : length - 1]

    @cached_property
    def task_stream(self) -> Float64[Tensor, "depths examples length width"]:
        """Residual stream of the validation examples `task_tokens`."""
        return residual_stream(self.model, self.task_tokens)

    @cached_property
    def few_random_stream(self) -> Float64[Tensor, "depths examples length width"]:
        """Residual stream of the first `FEW_EXAMPLE_COUNT` random token sequences."""
        return residual_stream(self.model, self.random_tokens[:FEW_EXAMPLE_COUNT])

    @cached_property
    def random_stream(self) -> Float64[Tensor, "depths examples length width"]:
        """Residual stream of all random token sequences."""
        others = residual_stream(self.model, self.random_tokens[FEW_EXAMPLE_COUNT:])
        return torch.cat((self.few_random_stream, others), dim=1)


@torch.no_grad()
def residual_stream(
    model: Transformer, tokens: Int[Tensor, "examples length"]
) -> Float64[Tensor, "depths examples length width"]:
    """Return the embeddings and the states after each layer of a model that predicts after the last of `tokens`."""
    parts = []
    for batch in tokens.split(BATCH_SIZE):
        samples = model.samples(batch, last_position(batch))
        parts.append(torch.stack(model.residual_stream(samples.tokens, samples.attention_mask)))
    return torch.cat(parts, dim=1)


def draw_random_tokens(example_count: int, length: int, vocabulary_size: int) -> Int[Tensor, "examples length"]:
    """Draw tokens independently and uniformly; every call returns the same tokens."""
    return torch.from_numpy(np.random.default_rng(0).integers(vocabulary_size, size=(example_count, length)))


@dataclass(frozen=True)
class Measurement:
    """A measurement: a function from a model to a table, and how the report describes the table.

    The table has a row per key (depth, layer, position, ...): first the keys, then the columns of `value_descriptions`.
    """

    function: Callable[[MeasurementInput], pd.DataFrame]
    title: str
    value_descriptions: dict[str, str]
    """Description of each value column of the measurement's table. The figure shows the first of these columns."""
    no_effect_value: float | None
    """Value of the table's first value column that means no effect; None if no single number does."""
    includes_snapshots: bool
    """True if the measurement is applied to snapshots too; False if only before and after training."""
    needs_answers: bool
    """True if the measurement counts correct answers, so that it does not apply to tasks scored in bits per token."""

    @property
    def name(self) -> str:
        """Name of the measurement, and of the file with the measurement's table."""
        return self.function.__name__

    def __call__(self, inputs: MeasurementInput) -> pd.DataFrame:
        """Measure one model, and return the measurement's table."""
        return self.function(inputs)

    @property
    def explanation(self) -> str:
        """Explanation of the measurement in the report: the first paragraph of the function's docstring."""
        return " ".join((self.function.__doc__ or "").split("\n\n")[0].split())


def measurement(
    title: str,
    value_descriptions: dict[str, str],
    *,
    no_effect_value: float | None = None,
    includes_snapshots: bool = False,
    needs_answers: bool = False,
) -> Callable[[Callable[[MeasurementInput], pd.DataFrame]], Measurement]:
    """Return a decorator that makes a function a `Measurement` with this title, these columns and these options."""
    return lambda function: Measurement(
        function, title, value_descriptions, no_effect_value, includes_snapshots, needs_answers
    )
