"""Substitutes for missing residual connections: each carries one part of what the connection would carry.

A sublayer returns f(norm(x)) + r. With a residual connection, r = x. A substitute computes r from `x` itself, from
random numbers, or from the states of donors: other examples, whose states pass no gradient. In training, the donor of
an example is the next example of its batch. In evaluation, fixed training examples are the donors of all examples, so
that a prediction does not depend on its batch.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pipeline.params.model import SubstituteName
from pipeline.transformer.dropout import uniform

States = Float[Tensor, "_ _ width"]
"""States `[sample, position, unit]`."""
SubstituteStates = Float[Tensor, "#samples _ width"]
"""States of a substitute: an axis of samples or positions has length 1 if they all have the same state."""


class SubstituteContext(NamedTuple):
    """Inputs of a substitute beside the states that the residual connection would carry."""

    donors: Float[Tensor, "donors length width"]
    """Detached states of all donors where they enter the sublayer."""
    donor: Float[Tensor, "#samples length width"]
    """Detached states of the donor assigned to each sample."""
    key: Int[Tensor, ""]
    """Key of the random numbers (see `dropout.uniform`)."""
    per_sample: bool
    """True: every sample has its own random numbers; false: all samples share them."""
    faded: Float[Tensor, ""]
    """Share of a fading connection that is gone: 0 when training begins, 1 from its middle on."""


Substitute = Callable[[States, SubstituteContext], SubstituteStates]


def backward(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return zeros that pass the gradient on: the backward half of a residual connection."""
    return x - x.detach()


def forward(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return `x` without its gradient: the forward half of a residual connection."""
    return x.detach()


def other_row(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return the donor's state at the same position: a real state of that position, computed from other tokens."""
    return context.donor


def elsewhere(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return the donor's state at one random position: a real state of another position, computed from other tokens."""
    samples, length = len(x) if context.per_sample else 1, context.donor.shape[-2]
    position = (uniform(context.key, (samples, 1, 1), x.device) * length).long()
    return context.donor.take_along_dim(position, dim=-2)


def slot_mean(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return the mean of the donors' states at each position: it depends on the position and on no token."""
    return context.donors.mean(0, keepdim=True)


def all_mean(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return the mean over donors and positions, a single vector: the control for `slot_mean`."""
    return context.donors.mean((0, 1), keepdim=True)


def noise(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return Gaussian noise with the root mean square of the donors' states."""
    shape = (len(x) if context.per_sample else 1, *context.donor.shape[-2:])
    radius, angle = uniform(context.key, (2, *shape), x.device).to(x.dtype)
    normal = (-2.0 * torch.log1p(-radius)).sqrt() * torch.cos(2.0 * math.pi * angle)  # Box and Muller 1958
    return normal * context.donors.square().mean().sqrt()


def fade(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return `x`, scaled from 1 down to 0 over the first half of training: a residual connection that disappears."""
    return (1.0 - context.faded) * x


SUBSTITUTES: dict[SubstituteName, Substitute | None] = {
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


class ResidualSubstitute(nn.Module):
    """Module that computes the substitute for one sublayer's residual connection.

    In training, the population sets the buffers `key` and `faded`. In evaluation the key is fixed, all samples share
    their random numbers, and fading is complete.
    """

    key: Tensor
    faded: Tensor

    def __init__(self, substitute: Substitute) -> None:
        super().__init__()
        self.substitute = substitute
        self.register_buffer("key", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("faded", torch.zeros(()), persistent=False)

    def forward(self, x: States, donors: States | None, samples_per_example: int) -> SubstituteStates:
        """Return what is added to the sublayer's output in place of `x`.

        Args:
            donors: states of fixed donors; None: the donor of each sample belongs to the next example of the batch.
            samples_per_example: number of consecutive samples that are prefixes of one example.
        """
        if donors is None:
            donors = x.detach()
            donor = donors.roll(-samples_per_example, 0)
        else:
            donor = donors[:1]
        if self.training:
            context = SubstituteContext(donors, donor, self.key, True, self.faded)
        else:
            key, faded = torch.ones_like(self.key), torch.ones_like(self.faded)
            context = SubstituteContext(donors, donor, key, False, faded)
        return self.substitute(x, context)[..., : x.shape[-2], :]
