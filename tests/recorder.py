"""A model's activations, recorded from its own modules: what `pipeline.hooks` must give, from a model with others."""

from contextlib import ExitStack

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pipeline.transformer.attention import Attention, last_position
from pipeline.transformer.model import Block, Transformer


def hook_points(model: Transformer) -> dict[str, nn.Module]:
    """Return the module of a model that outputs each activation, by the name of the activation."""
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
) -> tuple[Float[Tensor, "examples vocabulary"], dict[str, Tensor]]:
    """Return the logits for the token after each example, and by name all activations from which they were computed:
    states `[example, position, unit]` or attention weights `[example, head, query, key]`.

    With full attention, all tokens of an example attend to each other.
    """
    # The pass of the donors comes first, and that of the examples overwrites its entries.
    activations: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, module in hook_points(model).items():
            hook = module.register_forward_hook(lambda _, args, output, name=name: activations.update({name: output}))
            hooks.enter_context(hook)
        samples = model.samples(tokens, last_position(tokens))
        last = model.residual_stream(samples.tokens, samples.attention_mask)[-1]
        return model.logits(last[:, -1:])[:, 0], activations
