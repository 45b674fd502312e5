"""Substitutes for missing residual connections: each carries one part of what the connection would carry.

A sublayer returns f(norm(x)) + r. With a residual connection, r = x. A substitute is r = gate * s. The gate is a
trained number, so that the network can turn off what harms it. No gradient passes to x through s, which is computed
from x, from random numbers, from learned vectors, or from the states of donors: other examples. In training, the donor
of an example is the next example of its batch. In evaluation, fixed training examples are the donors of all examples,
so that a prediction does not depend on its batch.
"""

import math
from collections.abc import Callable, Sequence
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
    """What a substitute is computed from. Only `stored` passes a gradient."""

    states: Float[Tensor, "samples _ width"]
    """States that the residual connection would carry."""
    donor_states: Float[Tensor, "donors length width"]
    """States of all donor examples at the input of the sublayer: in training, those of the batch."""
    assigned_donor_states: Float[Tensor, "#samples length width"]
    """States of the donor example that is assigned to each sample."""
    key: Int[Tensor, ""]
    """Key that determines a substitute's random numbers (see `dropout.draw_uniform`): another one at each step."""
    is_random_per_sample: bool
    """True if every sample gets random numbers of its own; False if all samples share the same random numbers."""
    stored: Tensor | None
    """Numbers of the substitute that are saved with the weights."""


Substitute = Callable[[SubstituteContext], SubstituteStates]


def own_states(context: SubstituteContext) -> SubstituteStates:
    """Return the states that the connection would carry: all of its content, and no gradient."""
    return context.states


def donor_at_same_position(context: SubstituteContext) -> SubstituteStates:
    """Return the donor's state at the same position: it was computed from other tokens."""
    return context.assigned_donor_states


def donor_at_deranged_position(context: SubstituteContext) -> SubstituteStates:
    """Return the donor's state at another position, always the same one: that of the next position of a random cycle.

    `stored` has the place of each position in the cycle.
    """
    assert context.stored is not None
    cycle = context.stored[: context.assigned_donor_states.shape[-2]].argsort(stable=True)
    source = torch.empty_like(cycle).scatter(0, cycle, cycle.roll(-1))
    return context.assigned_donor_states.index_select(-2, source)


def donor_at_permuted_position(context: SubstituteContext) -> SubstituteStates:
    """Return the donor's states with permuted positions. Each training step draws another permutation."""
    states = context.assigned_donor_states
    return states.index_select(-2, draw_uniform(context.key, states.shape[-2:-1], states.device).argsort())


def donor_mean_by_position(context: SubstituteContext) -> SubstituteStates:
    """Return the mean of the donors' states at each position, rescaled: it depends on the position and on no token."""
    return rescale(context.donor_states.mean(0, keepdim=True), context)


def learned_vectors(context: SubstituteContext) -> SubstituteStates:
    """Return a learned vector for each position, rescaled."""
    assert context.stored is not None
    return rescale(context.stored[None], context)


def constant_vector(context: SubstituteContext) -> SubstituteStates:
    """Return one random vector, the same for all positions, samples, steps and seeds, rescaled."""
    return rescale(draw_normal(torch.zeros_like(context.key), (1, 1, context.states.shape[-1]), context), context)


def noise(context: SubstituteContext) -> SubstituteStates:
    """Return Gaussian noise, rescaled."""
    samples = len(context.states) if context.is_random_per_sample else 1
    return rescale(draw_normal(context.key, (samples, *context.donor_states.shape[-2:]), context), context)


def draw_normal(key: Int[Tensor, ""], shape: Sequence[int], context: SubstituteContext) -> Tensor:
    """Draw random numbers from the standard normal distribution (Box and Muller 1958)."""
    radius, angle = draw_uniform(key, (2, *shape), context.states.device).to(context.states.dtype)
    return (-2.0 * torch.log1p(-radius)).sqrt() * torch.cos(2.0 * math.pi * angle)


def rescale(states: SubstituteStates, context: SubstituteContext) -> SubstituteStates:
    """Give states the root mean square of what the connection would carry: at this step, in this network."""
    size = states.square().mean().sqrt().clamp(min=1e-12)
    return states * (context.donor_states.square().mean().sqrt() / size)


SUBSTITUTES: dict[SubstituteName, Substitute | None] = {
    "none": None,
    "detached": own_states,
    "donor": donor_at_same_position,
    "donor-deranged": donor_at_deranged_position,
    "donor-permuted": donor_at_permuted_position,
    "position-mean": donor_mean_by_position,
    "learned-vector": learned_vectors,
    "noise": noise,
    "constant": constant_vector,
}


class FadingConnection(nn.Module):
    """Residual connection that fades linearly from intact to gone in `steps` training steps; in evaluation it is gone.

    In training, the population sets the buffer `step`.
    """

    step: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("step", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, x: States, donor_states: States | None, samples_per_example: int) -> States:
        """Return what is left of `x`; the other arguments are those of a substitute, and not used."""
        if not self.training:
            return torch.zeros_like(x)
        return (1.0 - (self.step / self.steps).clamp(max=1.0)).to(x.dtype) * x


class ResidualSubstitute(nn.Module):
    """Module that computes the substitute for the residual connection of one sublayer.

    In training, the population sets the buffer `key`. In evaluation the key is fixed, and all samples share their
    random numbers.
    """

    key: Tensor

    def __init__(self, name: SubstituteName, length: int, width: int) -> None:
        super().__init__()
        substitute = SUBSTITUTES[name]
        assert substitute is not None
        self.substitute = substitute
        self.gate = nn.Parameter(torch.ones(1))
        self.stored: nn.Parameter | None = None
        if name == "donor-deranged":  # the same in all layers, because it depends on the seed alone; never trained
            generator = torch.Generator().manual_seed(torch.initial_seed())
            self.stored = nn.Parameter(torch.randperm(length, generator=generator).float())
        elif name == "learned-vector":
            self.stored = nn.Parameter(torch.randn(length, width))
        self.register_buffer("key", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, x: States, donor_states: States | None, samples_per_example: int) -> SubstituteStates:
        """Return the states to add to the sublayer's output in place of the sublayer's input `x`.

        Without `donor_states` of fixed examples, the next example of the batch is the donor: `samples_per_example`
        further on, because that many consecutive samples are prefixes of one example.
        """
        x = x.detach()
        if donor_states is None:
            donor_states, assigned_donor_states = x, x.roll(-samples_per_example, 0)
        else:
            assigned_donor_states = donor_states[:1]
        key = self.key if self.training else torch.ones_like(self.key)
        context = SubstituteContext(x, donor_states, assigned_donor_states, key, self.training, self.stored)
        return self.gate * self.substitute(context)[..., : x.shape[-2], :]
