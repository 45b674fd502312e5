"""What passes through a model on its way to a prediction, under the names that users of TransformerLens know."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pipeline.transformer.attention import Attention, select_positions
from pipeline.transformer.model import Block, Transformer

Activations = dict[str, Tensor]
"""Name -> what passed there: states `[row, position, unit]`, patterns `[row, head, query, key]`."""


class Point(NamedTuple):
    """A place in a model: what goes into a module, or comes out of it."""

    module: nn.Module
    side: Literal["in", "out"] = "out"


def points(model: Transformer) -> dict[str, Point]:
    """Every place that has a name."""
    found = {"hook_embed": Point(model.embedding)}
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        attention = block.attention.transformation
        assert isinstance(attention, Attention)
        found |= {
            f"blocks.{layer}.hook_resid_pre": Point(block, "in"),
            f"blocks.{layer}.ln1.hook_normalized": Point(block.attention.norm),
            f"blocks.{layer}.attn.hook_pattern": Point(attention.attention_weights),
            f"blocks.{layer}.hook_attn_out": Point(block.attention.dropout),
            f"blocks.{layer}.hook_resid_mid": Point(block.attention),
            f"blocks.{layer}.ln2.hook_normalized": Point(block.mlp.norm),
            f"blocks.{layer}.hook_mlp_out": Point(block.mlp.dropout),
            f"blocks.{layer}.hook_resid_post": Point(block.mlp),
        }
    return found | {"ln_final.hook_normalized": Point(model.norm)}


@contextmanager
def recording(model: Transformer) -> Iterator[Activations]:
    """What passes through `model` last, while this is open."""
    seen: Activations = {}

    def hook(name: str, point: Point) -> Any:
        if point.side == "in":
            return point.module.register_forward_pre_hook(lambda _, given: seen.update({name: given[0]}))
        return point.module.register_forward_hook(lambda _, given, made: seen.update({name: made}))

    hooks = [hook(name, point) for name, point in points(model).items()]
    try:
        yield seen
    finally:
        for one in hooks:
            one.remove()


@torch.no_grad()
def run_with_cache(
    model: Transformer, tokens: Int[Tensor, "rows length"]
) -> tuple[Float[Tensor, "rows vocabulary"], Activations]:
    """Logits for what follows each row, and all that passed on the way to them. With full attention all tokens of a row
    see each other."""
    samples = model.samples(tokens, torch.full_like(tokens[:, :1], tokens.shape[1] - 1))
    with recording(model) as seen:  # rows that lend their states go first: the others overwrite what they left
        last = model.residual_stream(samples.tokens, samples.visible)[-1]
        logits = model.logits(select_positions(last, samples.read_at))[:, 0]
    return logits, seen
