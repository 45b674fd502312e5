"""What is left of an answer when what a state says of its position is taken out of it: the mean of the states at each
position, then their size, too."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.measurement.answers import answer_logits, answered_examples, answers_right
from pipeline.measurement.registry import MeasurementInput, measurement, residual_stream

ROWS = 64
"""Random rows, each in all rotations: so every token stands everywhere equally often, and what differs between the
means of positions is the network's doing."""

Change = Callable[[Float[Tensor, "rows length width"]], Float[Tensor, "rows length width"]]


class Coded(NamedTuple):
    """How the states at one depth say where they are."""

    mean: Float[Tensor, "length width"]
    """By position, over rows."""
    size: Float[Tensor, " length"]
    """Mean distance from that mean."""

    @property
    def middle(self) -> Float[Tensor, " width"]:
        """The mean over positions."""
        return self.mean.mean(0)

    def without_mean(self, x: Float[Tensor, "rows length width"]) -> Float[Tensor, "rows length width"]:
        """The states, every position moved to the same mean."""
        return x - self.mean + self.middle

    def without_size(self, x: Float[Tensor, "rows length width"]) -> Float[Tensor, "rows length width"]:
        """The same, every position as far from it, too."""
        return self.middle + (x - self.mean) * (self.size.mean() / self.size)[:, None]

    def sham(self, x: Float[Tensor, "rows length width"]) -> Float[Tensor, "rows length width"]:
        """Every position moved as far as `without_mean` does, in a direction that means nothing."""
        drawn = torch.randn(self.mean.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
        far = (self.middle - self.mean).norm(dim=-1, keepdim=True)
        return x + far * drawn / drawn.norm(dim=-1, keepdim=True)


def rotated(rows: Int[Tensor, "rows length"]) -> Int[Tensor, "rotations length"]:
    """Each row in all its rotations."""
    return torch.cat([rows.roll(shift, 1) for shift in range(rows.shape[1])])


def coded(states: Float[Tensor, "rows length width"]) -> Coded:
    """How these states say where they are."""
    mean = states.mean(0)
    return Coded(mean, (states - mean).norm(dim=-1).mean(0))


@measurement(
    "Does the answer need what states say of their position?",
    {
        "mean_erased": "exact match without the mean of each position",
        "size_erased": "without its size, too",
        "sham": "with states moved as far anywhere",
        "untouched": "of the model as it is",
    },
    of_answers=True,
)
@torch.no_grad()
def erasure(subject: MeasurementInput) -> pd.DataFrame:
    """Exact match on validation rows, each token of the answer given the true ones before it, when at one depth the
    states of every position are moved to the same mean, are made as large, too, or are moved as far in a direction that
    means nothing. What a position is, told by the mean of its states, is then gone for all later layers."""
    questions = answered_examples(subject.examples)
    length = questions.tokens.shape[1]
    by_depth = residual_stream(subject.model, rotated(subject.random[:ROWS, :length]))

    def exact(depth: int, change: Change) -> float:
        logits = answer_logits(subject.model, questions, edit=lambda at, x: change(x) if at == depth else x)
        return answers_right(logits, questions).double().mean().item()

    untouched = exact(0, lambda x: x)
    found = []
    for depth, position in enumerate(map(coded, by_depth)):
        found.append(
            {
                "depth": depth,
                "mean_erased": exact(depth, position.without_mean),
                "size_erased": exact(depth, position.without_size),
                "sham": exact(depth, position.sham),
                "untouched": untouched,
            }
        )
    return pd.DataFrame(found)
