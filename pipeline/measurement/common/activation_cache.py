"""A model's activations, under the names of TransformerLens."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pipeline.transformer.attention import Attention, last_position, select_positions
from pipeline.transformer.model import Block, Transformer

Activations = dict[str, Tensor]
"""Name -> states `[example, position, unit]` or attention weights `[example, head, query, key]`."""


def hook_points(model: Transformer) -> dict[str, nn.Module]:
    """Name of each activation -> the module whose output it is."""
    points: dict[str, nn.Module] = {"hook_embed": model.embedding}
    stream: nn.Module = model.dropout
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        attention = block.attention.transformation
        assert isinstance(attention, Attention)
        points |= {
            f"blocks.{layer}.hook_resid_pre": stream,
            f"blocks.{layer}.ln1.hook_normalized": block.attention.norm,
            f"blocks.{layer}.attn.hook_pattern": attention.attention_weights,
            f"blocks.{layer}.hook_attn_out": block.attention.dropout,
            f"blocks.{layer}.hook_resid_mid": block.attention,
            f"blocks.{layer}.ln2.hook_normalized": block.mlp.norm,
            f"blocks.{layer}.hook_mlp_out": block.mlp.dropout,
            f"blocks.{layer}.hook_resid_post": block.mlp,
        }
        stream = block.mlp
    return points | {"ln_final.hook_normalized": model.norm}


@torch.no_grad()
def run_with_cache(
    model: Transformer, tokens: Int[Tensor, "examples length"]
) -> tuple[Float[Tensor, "examples vocabulary"], Activations]:
    """Logits for the token after each example, and all activations from which they were computed.

    With full attention, all tokens of an example attend to each other.
    """
    activations: Activations = {}  # the pass of the donors comes first, and that of the examples overwrites its entries
    handles = [
        module.register_forward_hook(lambda _, args, output, name=name: activations.update({name: output}))
        for name, module in hook_points(model).items()
    ]
    try:
        samples = model.samples(tokens, last_position(tokens))
        last = model.residual_stream(samples.tokens, samples.visible)[-1]
        logits = model.logits(select_positions(last, samples.read_at))[:, 0]
    finally:
        for handle in handles:
            handle.remove()
    return logits, activations
