"""What stands in for a residual connection that is missing: a part of what it would carry, or the sham of such a part.

A sublayer gives y = f(norm(x)) + r. A residual connection is r = x. A substitute makes r of the states of rows that
lend theirs, without gradient, so that what comes of it is not learned there. Which rows lend is a rule that does not
depend on how predictions are batched: in training the rows of a batch lend to each other, each to the one before it;
in evaluation a model's reference rows lend to every row, the first of them where a single one does.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pipeline.transformer.dropout import uniform

States = Float[Tensor, "#rows _ width"]
"""Of as many positions as the lenders have, or one that is meant for all."""


class DonorStates(NamedTuple):
    """States that enter the sublayer, without gradient."""

    every: Float[Tensor, "lenders length width"]
    """Of all rows that lend."""
    other: Float[Tensor, "#rows length width"]
    """Of the row that lends to each row."""


class Donors(NamedTuple):
    """Who lends."""

    reference: Float[Tensor, "lenders length width"] | None
    """The states of the reference rows; None: the rows lend to each other."""
    apart: int
    """Then each to the one that comes so many before it: as many samples are of one row."""

    def states_for(self, x: Float[Tensor, "rows length width"]) -> DonorStates:
        """To rows whose states are `x`."""
        every = x.detach() if self.reference is None else self.reference
        return DonorStates(every, every.roll(-self.apart, 0) if self.reference is None else every[:1])


class SubstituteContext(NamedTuple):
    """What a substitute may know beside states."""

    key: Int[Tensor, ""]
    """What random numbers come from."""
    fresh: bool
    """Whether they are drawn for each row; otherwise all rows share them."""
    faded: Float[Tensor, ""]
    """0 when training begins, 1 from its middle on."""


Substitute = Callable[[Float[Tensor, "rows length width"], DonorStates, SubstituteContext], States]


def backward(x: Float[Tensor, "rows length width"], lent: DonorStates, moment: SubstituteContext) -> States:
    """The path of the gradient, no content."""
    return x - x.detach()


def forward(x: Float[Tensor, "rows length width"], lent: DonorStates, moment: SubstituteContext) -> States:
    """All content, no path for the gradient."""
    return x.detach()


def other_row(x: Float[Tensor, "rows length width"], lent: DonorStates, moment: SubstituteContext) -> States:
    """Another row's state at the same position: real states of the slot, wrong tokens."""
    return lent.other


def elsewhere(x: Float[Tensor, "rows length width"], lent: DonorStates, moment: SubstituteContext) -> States:
    """Another row's state at a position that is drawn per row: real states, wrong slot and wrong tokens."""
    rows, length = len(x) if moment.fresh else 1, lent.other.shape[-2]
    position = (uniform(moment.key, (rows, 1, 1), x.device) * length).long()
    return lent.other.take_along_dim(position, dim=-2)


def slot_mean(x: Float[Tensor, "rows length width"], lent: DonorStates, moment: SubstituteContext) -> States:
    """The mean over rows, by position: the slot alone, at the network's own scale."""
    return lent.every.mean(0, keepdim=True)


def all_mean(x: Float[Tensor, "rows length width"], lent: DonorStates, moment: SubstituteContext) -> States:
    """The mean over rows and positions, one vector: the sham of `slot_mean`."""
    return lent.every.mean((0, 1), keepdim=True)


def noise(x: Float[Tensor, "rows length width"], lent: DonorStates, moment: SubstituteContext) -> States:
    """Gaussian, with the root mean square of the states: scale alone."""
    shape = (len(x) if moment.fresh else 1, *lent.other.shape[-2:])
    radius, angle = uniform(moment.key, (2, *shape), x.device).to(x.dtype)
    normal = (-2.0 * torch.log1p(-radius)).sqrt() * torch.cos(2.0 * math.pi * angle)  # Box and Muller 1958
    return normal * lent.every.square().mean().sqrt()


def fade(x: Float[Tensor, "rows length width"], lent: DonorStates, moment: SubstituteContext) -> States:
    """A residual connection that fades away over the first half of training; evaluated is what then remains."""
    return (1.0 - moment.faded) * x


SUBSTITUTES: dict[str, Substitute | None] = {
    "none": None,
    "backward": backward,
    "forward": forward,
    "other-row": other_row,
    "elsewhere": elsewhere,
    "slot-mean": slot_mean,
    "all-mean": all_mean,
    "noise": noise,
    "fade": fade,
}


class Substituted(nn.Module):
    """A substitute at one sublayer, with what it may know beside states: in training that is for others to set, in
    evaluation training is over and nothing is drawn anew."""

    key: Tensor
    faded: Tensor

    def __init__(self, substitute: Substitute) -> None:
        super().__init__()
        self.substitute = substitute
        self.register_buffer("key", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("faded", torch.zeros(()), persistent=False)

    def forward(self, x: Float[Tensor, "rows length width"], lenders: Donors) -> States:
        over = SubstituteContext(torch.ones_like(self.key), False, torch.ones_like(self.faded))
        now = SubstituteContext(self.key, True, self.faded) if self.training else over
        return self.substitute(x, lenders.states_for(x), now)[..., : x.shape[-2], :]
