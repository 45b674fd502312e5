"""Attention masks (which positions attend to which) and the attention sublayer.

The masks decide how examples become samples, because full attention would leak otherwise: what predicts token n+1 must
not attend to it. With causal masks in all layers, a model predicts after every position at once; if any layer has full
attention, each prefix is a sample.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from pipeline.params.model import AttentionName
from pipeline.transformer.positional import PositionalEncoding


class Samples(NamedTuple):
    """Token sequences that the transformer reads, which keys each query attends to, and where predictions are made."""

    tokens: Int[Tensor, "samples length"]
    attention_mask: Bool[Tensor, "*layers #samples length length"]
    """True where a query (last axis but one) attends to a key (last axis): one mask for all layers, or one per layer.
    """
    output_positions: Int[Tensor, "samples reads"]
    """Positions of each sample whose next token the transformer predicts."""


def select_positions(
    x: Shaped[Tensor, "*#samples length rest"], positions: Int[Tensor, "*#samples reads"] | None
) -> Shaped[Tensor, "... _ rest"]:
    """Return the states `x` at `positions` of each sample; all states if `positions` is None."""
    return x if positions is None else x.take_along_dim(positions[..., None], dim=-2)


def last_position(tokens: Int[Tensor, "batch length"]) -> Int[Tensor, "batch 1"]:
    """Return the index of the last position of a sequence, in a row per sequence."""
    return torch.full_like(tokens[:, :1], tokens.shape[1] - 1)


def build_samples(
    attention: Sequence[AttentionName], tokens: Int[Tensor, "batch length"], positions: Int[Tensor, "batch reads"]
) -> Samples:
    """Return samples for layers with these attention masks, which predict after `positions`.

    Causal: each token attends to itself and earlier tokens. Full: all tokens of a prefix attend to each other.
    """
    (batch, length), reads = tokens.shape, positions.shape[-1]
    causal = torch.ones(1, length, length, dtype=torch.bool, device=tokens.device).tril()
    if "full" not in attention:
        return Samples(tokens, causal, positions)
    prefixes = tokens[:, None, :].expand(batch, reads, length).reshape(batch * reads, length)
    last = positions.reshape(batch * reads, 1)
    in_prefix = (torch.arange(length, device=tokens.device) <= last)[:, None, :].expand(-1, length, -1)
    if "causal" not in attention:
        return Samples(prefixes, in_prefix, last)
    masks = torch.stack([in_prefix & causal if name == "causal" else in_prefix for name in attention])
    return Samples(prefixes, masks, last)


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2).

    Written as two matrix products and a softmax, because torch's fused kernel cannot be batched over the members of a
    population on a CPU.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.attention_weights = nn.Identity()  # a module, so that a forward hook can record the weights

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        encoding: PositionalEncoding,
        score_bias: Float[Tensor, "#batch #heads length length"],
        output_positions: Int[Tensor, "batch reads"] | None = None,
    ) -> Float[Tensor, "batch _ width"]:
        """Return the output at `output_positions` (default: all). `score_bias` has axes `[.., key, query]`."""
        for_query, for_key, for_value = self.query_key_value.weight.chunk(3)
        for_query = for_query * math.sqrt(self.heads / x.shape[-1])  # cheaper than to scale the queries or the scores
        query, key, value = (
            F.linear(source, weight).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [batch, heads, positions, units]
            for source, weight in ((select_positions(x, output_positions), for_query), (x, for_key), (x, for_value))
        )
        # Keys before queries: for sequences this short, softmax over the last axis takes four times as long.
        scores = encoding.rotate_by_position(key) @ encoding.rotate_by_position(query, output_positions).mT
        query_positions = None if output_positions is None else output_positions[:, None]
        scores = scores + select_positions(score_bias.mT, query_positions).mT
        weights = self.attention_weights(scores.softmax(dim=-2).mT)
        return self.output((weights @ value).transpose(1, 2).flatten(-2))
