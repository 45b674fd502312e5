"""What a measurement is: a function of a member and rows, marked with `@measurement`."""

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
from pipeline.transformer.model import Transformer

ROWS_AT_ONCE = 64
"""As many as a core's cache holds with all that is computed of them."""
FEW_ROWS = 256
"""Random rows that are enough for a mean: it is within 3 % of that of a thousand."""


@dataclass(frozen=True)
class MeasurementInput:
    """One member at one moment of its training, and the rows to measure it on.

    Every subject of a task sees the same rows, so that ablations can be compared row by row. None is a test row.
    """

    model: Transformer
    """In evaluation mode, on the CPU, float64: with what float32 rounds away, another processor or number of threads
    would be seen in the digits that are written."""
    ablation: Ablation
    examples: Examples
    """Rows of the task that the member was not trained on (the validation split)."""
    random: Int[Tensor, "rows length"]
    """Rows of independent, uniformly drawn tokens: here only the model can tell one position from another."""

    @property
    def tokens(self) -> Int[Tensor, "rows length"]:
        """The task's rows as the model reads them: the last token is never an input. Of rows that are not alike long,
        those of the commonest length (of equals, the shortest), so that none is padded."""
        lengths = self.examples.lengths
        length = int(np.bincount(lengths).argmax())
        return self.examples[lengths == length].tokens[:, : length - 1]

    @cached_property
    def task_stream(self) -> Float64[Tensor, "layers rows length width"]:
        """The residual stream of `tokens`."""
        return residual_stream(self.model, self.tokens)

    @cached_property
    def few_random_stream(self) -> Float64[Tensor, "layers rows length width"]:
        """The residual stream of the first `FEW_ROWS` of `random`."""
        return residual_stream(self.model, self.random[:FEW_ROWS])

    @cached_property
    def random_stream(self) -> Float64[Tensor, "layers rows length width"]:
        """The residual stream of `random`."""
        return torch.cat((self.few_random_stream, residual_stream(self.model, self.random[FEW_ROWS:])), dim=1)


@torch.no_grad()
def residual_stream(
    model: Transformer, tokens: Int[Tensor, "rows length"]
) -> Float64[Tensor, "layers rows length width"]:
    """The residual stream for the prediction after the last of `tokens`: the embeddings, then what each layer leaves.
    With full attention all tokens of a row see each other."""
    parts = []
    for rows in tokens.split(ROWS_AT_ONCE):
        samples = model.samples(rows, torch.full((len(rows), 1), rows.shape[1] - 1))
        parts.append(torch.stack(model.residual_stream(samples.tokens, samples.visible)))
    return torch.cat(parts, dim=1)


def random_rows(rows: int, length: int, vocabulary: int) -> Int[Tensor, "rows length"]:
    """Independent, uniformly drawn tokens; always the same ones."""
    return torch.from_numpy(np.random.default_rng(0).integers(vocabulary, size=(rows, length)))


@dataclass(frozen=True)
class Measurement:
    """A measurement and how its result is to be shown.

    The table has a row per key (layer, position, ...) and, after the keys, the columns named in `values`.
    """

    name: str
    title: str
    values: dict[str, str]
    """Column -> what it is, in words; the first is the one that is drawn."""
    function: Callable[[MeasurementInput], pd.DataFrame]
    reference: float | None
    """What the first value is where there is nothing to find, if that is one number."""
    along_training: bool
    """Whether it is taken at the snapshots too, not only at initialisation and at the end."""
    of_answers: bool
    """Whether it counts right answers, so that it says nothing of a task that is scored by bits."""

    @property
    def explanation(self) -> str:
        """The first paragraph of the function's docstring."""
        return " ".join((self.function.__doc__ or "").split("\n\n")[0].split())


REGISTERED: dict[str, Measurement] = {}
"""Those whose files were imported; `catalogue.py` imports all."""


def measurement(
    title: str,
    values: dict[str, str],
    *,
    reference: float | None = None,
    along_training: bool = False,
    of_answers: bool = False,
) -> Callable[[Callable[[MeasurementInput], pd.DataFrame]], Callable[[MeasurementInput], pd.DataFrame]]:
    """Mark a function as a measurement, under its own name."""

    def register(function: Callable[[MeasurementInput], pd.DataFrame]) -> Callable[[MeasurementInput], pd.DataFrame]:
        REGISTERED[function.__name__] = Measurement(
            function.__name__, title, values, function, reference, along_training, of_answers
        )
        return function

    return register
