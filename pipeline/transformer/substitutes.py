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
from pipeline.transformer.dropout import draw_uniform

States = Float[Tensor, "_ _ width"]
"""States of the residual stream, with the axes sample, position, unit."""
SubstituteStates = Float[Tensor, "#samples _ width"]
"""States that a substitute returns: the axis of samples or positions has length 1 if all of them share one state."""


class SubstituteContext(NamedTuple):
    """Arguments of a substitute, in addition to the states that the residual connection would carry."""

    donor_states: Float[Tensor, "donors length width"]
    """States of all donor examples at the input of the sublayer, detached from the gradient."""
    assigned_donor_states: Float[Tensor, "#samples length width"]
    """States of the donor example that is assigned to each sample, detached from the gradient."""
    key: Int[Tensor, ""]
    """Key that determines a substitute's random numbers (see `dropout.draw_uniform`)."""
    is_random_per_sample: bool
    """True if every sample gets random numbers of its own; False if all samples share the same random numbers."""
    faded_share: Float[Tensor, ""]
    """Share of a fading residual connection that is gone: 0 when training begins, 1 from the middle of training on."""


Substitute = Callable[[States, SubstituteContext], SubstituteStates]


def gradient_only(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return zeros that pass the gradient on: the backward half of a residual connection."""
    return x - x.detach()


def detached_states(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return the states `x` without a gradient: the forward half of a residual connection."""
    return x.detach()


def donor_at_same_position(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return the state of another example (the donor) at the same position: it was computed from other tokens."""
    return context.assigned_donor_states


def donor_at_random_position(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return the state of another example (the donor) at one random position, the same for all."""
    samples, length = len(x) if context.is_random_per_sample else 1, context.assigned_donor_states.shape[-2]
    position = (draw_uniform(context.key, (samples, 1, 1), x.device) * length).long()
    return context.assigned_donor_states.take_along_dim(position, dim=-2)


def donor_mean_by_position(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return the mean of the donor examples' states at each position: it depends on the position and on no token."""
    return context.donor_states.mean(0, keepdim=True)


def overall_donor_mean(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return the mean state over donor examples and positions: a vector that depends on neither position nor token."""
    return context.donor_states.mean((0, 1), keepdim=True)


def donor_scaled_noise(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return Gaussian noise with the root mean square of the donor examples' states."""
    shape = (len(x) if context.is_random_per_sample else 1, *context.assigned_donor_states.shape[-2:])
    radius, angle = draw_uniform(context.key, (2, *shape), x.device).to(x.dtype)
    normal = (-2.0 * torch.log1p(-radius)).sqrt() * torch.cos(2.0 * math.pi * angle)  # Box and Muller 1958
    return normal * context.donor_states.square().mean().sqrt()


def fading_states(x: States, context: SubstituteContext) -> SubstituteStates:
    """Return the states `x`, scaled from 1 down to 0 in the first half of training: a connection that fades away."""
    return (1.0 - context.faded_share) * x


SUBSTITUTES: dict[SubstituteName, Substitute | None] = {
    "none": None,
    "backward": gradient_only,
    "forward": detached_states,
    "other-row": donor_at_same_position,
    "elsewhere": donor_at_random_position,
    "slot-mean": donor_mean_by_position,
    "all-mean": overall_donor_mean,
    "noise": donor_scaled_noise,
    "fade": fading_states,
}


class ResidualSubstitute(nn.Module):
    """Module that computes the substitute for the residual connection of one sublayer.

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

    def forward(self, x: States, donor_states: States | None, samples_per_example: int) -> SubstituteStates:
        """Return the states to add to the sublayer's output in place of the sublayer's input `x`.

        Without `donor_states` of fixed examples, the next example of the batch is the donor: `samples_per_example`
        further on, because that many consecutive samples are prefixes of one example.
        """
        if donor_states is None:
            donor_states = x.detach()
            assigned_donor_states = donor_states.roll(-samples_per_example, 0)
        else:
            assigned_donor_states = donor_states[:1]
        key, faded = self.key, self.faded
        if not self.training:
            key, faded = torch.ones_like(key), torch.ones_like(faded)
        context = SubstituteContext(donor_states, assigned_donor_states, key, self.training, faded)
        return self.substitute(x, context)[..., : x.shape[-2], :]
