"""What every measurement needs: its input, the decorator that declares it, and functions that make its table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from pipeline.dataset import Examples
from pipeline.measurement.common.interventions import permuted_prompts
from pipeline.params import Ablation
from pipeline.transformer.attention import last_position
from pipeline.transformer.model import Transformer

BATCH_SIZE = 64
"""Number of examples computed at a time: as many as fit into a core's cache with all their states."""


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
    random_example_count: int = 1000

    @cached_property
    def random_tokens(self) -> Int[Tensor, "examples length"]:
        """Tokens drawn independently and uniformly, so that positions differ only because of the model."""
        size = (self.random_example_count, self.examples.tokens.shape[1])
        return torch.from_numpy(np.random.default_rng(0).integers(self.model.embedding.num_embeddings, size=size))

    @property
    def task_tokens(self) -> Int[Tensor, "examples length"]:
        """Tokens of all validation examples of the most common length (the shortest of several), so without padding."""
        lengths = self.examples.lengths
        length = int(np.bincount(lengths).argmax())
        return self.examples[lengths == length].tokens[:, : length - 1]

    @cached_property
    def permuted_stream(self) -> Float64[Tensor, "depths prompts orders length width"]:
        """Residual stream of the prompts of `permuted_prompts`, first in their own order, then in the permuted ones."""
        permuted = permuted_prompts(self.examples)
        tokens = torch.cat((permuted.prompts[:, None], permuted.tokens), dim=1)
        return residual_stream(self.model, tokens.flatten(0, 1)).unflatten(1, tokens.shape[:2])

    @cached_property
    def random_stream(self) -> Float64[Tensor, "depths examples length width"]:
        """Residual stream of all random token sequences."""
        return residual_stream(self.model, self.random_tokens)

    @cached_property
    def streams(self) -> dict[str, Float64[Tensor, "depths _ _ width"]]:
        """Residual streams of `random_tokens` and `task_tokens`, by their names in the column `inputs` of tables."""
        return {"random": self.random_stream, "task": residual_stream(self.model, self.task_tokens)}


@torch.no_grad()
def residual_stream(
    model: Transformer, tokens: Int[Tensor, "examples length"]
) -> Float64[Tensor, "depths examples length width"]:
    """Return the embeddings and the states after each layer of a model that predicts after the last of `tokens`."""
    parts = []
    for batch in tokens.split(BATCH_SIZE):
        samples = model.samples(batch, last_position(batch))
        parts.append(model.residual_stream(samples.tokens, samples.attention_mask))
    by_depth = [states for batches in zip(*parts, strict=True) for states in batches]
    return torch.cat(by_depth).unflatten(0, (len(parts[0]), len(tokens)))


@dataclass(frozen=True)
class Measurement:
    """A measurement: a function from a model to a table, and how the report describes the table.

    The table has a row per key (depth, layer, position, ...): first the keys, then the columns of `value_descriptions`.
    """

    function: Callable[[MeasurementInput], pd.DataFrame]
    title: str
    value_descriptions: dict[str, str]
    """Description of each value column of the measurement's table. The report shows the first of these columns."""
    no_effect_value: float | None = None
    """Value of the table's first value column that means no effect; None if no single number does."""
    trained_only: bool = False
    """True if the measurement is applied after training alone: before it, a model has no correct answers to lose."""
    needs_answers: bool = False
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
    title: str, value_descriptions: dict[str, str], **options: Any
) -> Callable[[Callable[[MeasurementInput], pd.DataFrame]], Measurement]:
    """Return a decorator that makes a function a `Measurement`; `options` are its fields that have a default."""
    return lambda function: Measurement(torch.no_grad()(function), title, value_descriptions, **options)


def tidy_table(index_columns: Sequence[str], **values: Tensor | np.ndarray) -> pd.DataFrame:
    """Return a table with a row per element of the arrays: its index on each axis, then its value in each array."""
    arrays = {name: np.asarray(value, dtype=float) for name, value in values.items()}
    indices = np.indices(next(iter(arrays.values())).shape).reshape(len(index_columns), -1)
    columns = dict(zip(index_columns, indices, strict=True))
    return pd.DataFrame(columns | {name: array.ravel() for name, array in arrays.items()})


def round_measured_values(table: pd.DataFrame) -> pd.DataFrame:
    """Round measured numbers to six significant digits and at most ten decimals: a true 0 is computed as up to 1e-13.

    Another number of threads, BLAS library or processor changes a number by 1e-12 or less, mostly by 1e-15, so that the
    rounded number is the same. This is likely, not certain: a number right at the edge between two roundings may still
    fall on either side. That happens to at most one in a million numbers of ordinary size, and to one in thousands
    below 1e-4.
    """
    kept = table.select_dtypes("float64").round(10) + 0.0  # no minus zero
    return table.assign(**kept.map(lambda number: float(f"{number:.6g}")))
