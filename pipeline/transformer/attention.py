"""Attention patterns (who may see whom) and the attention sublayer.

A pattern also says how rows become samples, because that is how full attention is kept from leaking: what predicts
token n+1 must not see it. A causal model answers for all positions of a row at once; with full attention each
prefix of a row is its own sample, in which queries and keys end where the prefix ends.
"""

import math
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from pipeline.transformer.positional import Positional


class Samples(NamedTuple):
    """Token rows as the network sees them, and where in them the predictions are read."""

    tokens: Int[Tensor, "samples length"]
    visible: Bool[Tensor, "#samples length length"]
    """Which keys (last axis) a query (the axis before) attends to."""
    read_at: Int[Tensor, "samples reads"]


def select_positions(
    x: Shaped[Tensor, "*#samples length rest"], at: Int[Tensor, "*#samples places"] | None
) -> Shaped[Tensor, "... _ rest"]:
    """What stands at the places `at` of each sample; everything where that is None."""
    return x if at is None else x.take_along_dim(at[..., None], dim=-2)


class Pattern(Protocol):
    """Who may see whom."""

    def samples(self, tokens: Int[Tensor, "batch length"], positions: Int[Tensor, "batch reads"]) -> Samples:
        """The samples from which the token after each of `positions` can be predicted without seeing it."""


class Causal:
    """A token sees itself and what came before; one sample a row."""

    def samples(self, tokens: Int[Tensor, "batch length"], positions: Int[Tensor, "batch reads"]) -> Samples:
        length = tokens.shape[-1]
        visible = torch.ones(1, length, length, dtype=torch.bool, device=tokens.device).tril()
        return Samples(tokens, visible, positions)


class Full:
    """All tokens see each other, up to the end of the prefix; one sample a prefix."""

    def samples(self, tokens: Int[Tensor, "batch length"], positions: Int[Tensor, "batch reads"]) -> Samples:
        (batch, length), reads = tokens.shape, positions.shape[-1]
        prefixes = tokens[:, None, :].expand(batch, reads, length).reshape(batch * reads, length)
        last = positions.reshape(batch * reads, 1)
        inside = torch.arange(length, device=tokens.device) <= last
        return Samples(prefixes, inside[:, None, :].expand(-1, length, -1), last)


PATTERNS: dict[str, Pattern] = {"causal": Causal(), "full": Full()}


class Attention(nn.Module):
    """Multi-head self-attention.

    Two products and a softmax rather than the fused kernel: the rows are short, and the fused kernel cannot be
    batched over members on a CPU.
    """

    def __init__(self, width: int, heads: int, positional: Positional) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.pattern = nn.Identity()  # where whoever watches sees how much every query draws from every key
        self.positional = (positional,)  # in a tuple: shared by all layers, owned (and listed) by the transformer

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        bias: Float[Tensor, "#batch #heads length length"],
        at: Int[Tensor, "batch places"] | None = None,
    ) -> Float[Tensor, "batch _ width"]:
        """What each position draws from those it sees; only for the places `at`, if they are named.

        `bias`: what is added to the scores, `[sample, head, key, query]`.
        """
        (positional,) = self.positional
        for_query, for_key, for_value = self.query_key_value.weight.chunk(3)
        for_query = for_query * math.sqrt(self.heads / x.shape[-1])  # they are fewer than the queries
        query, key, value = (
            F.linear(source, weight).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [batch, heads, places, units]
            for source, weight in ((select_positions(x, at), for_query), (x, for_key), (x, for_value))
        )
        # Keys come before queries: a softmax along so short a last axis takes four times as long.
        scores = positional.rotate(key) @ positional.rotate(query, at).mT
        scores = scores + select_positions(bias.mT, at if at is None else at[:, None]).mT
        pattern = self.pattern(scores.softmax(dim=-2).mT)
        return self.output((pattern @ value).transpose(1, 2).flatten(-2))
