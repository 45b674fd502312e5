"""Read or replace activations of a transformer while it computes, under the names of TransformerLens 4 or earlier."""

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.params.config import shorten_value, suggest_names
from pipeline.transformer.attention import Attention, last_position
from pipeline.transformer.model import Block, Transformer
from pipeline.transformer.positional import PositionalEncoding

LAYER_POINTS = (
    ("ln1.hook_out", "ln1.hook_normalized", "attention.norm"),
    ("attn.q.hook_out", "attn.hook_q", "attention.transformation.query"),
    ("attn.k.hook_out", "attn.hook_k", "attention.transformation.key"),
    ("attn.v.hook_out", "attn.hook_v", "attention.transformation.value"),
    ("attn.hook_attn_scores", "attn.hook_attn_scores", "attention.transformation.scores"),
    ("attn.hook_pattern", "attn.hook_pattern", "attention.transformation.pattern"),
    ("attn.o.hook_in", "attn.hook_z", "attention.transformation.z"),
    ("attn.hook_out", "hook_attn_out", "attention.dropout"),
    ("ln2.hook_in", "hook_resid_mid", "attention"),
    ("ln2.hook_out", "ln2.hook_normalized", "mlp.norm"),
    ("mlp.in.hook_out", "mlp.hook_pre", "mlp.transformation.input"),
    ("mlp.out.hook_in", "mlp.hook_post", "mlp.transformation.activation"),
    ("mlp.hook_out", "hook_mlp_out", "mlp.dropout"),
    ("hook_out", "hook_resid_post", "mlp"),
)
"""Activations of a layer: name, name before TransformerLens 4, and module of `Block` that outputs the activation."""


class HookPoint(NamedTuple):
    """What a hook function gets as its argument `hook`."""

    name: str


HookFunction = Callable[..., Tensor | None]
"""Function `(activation, hook)`. It returns the replacement, or None if it reads the activation or edits it in place.

Activations are `[prompt, position, unit]`; queries, keys, values and z are `[prompt, position, head, unit]`, and
attention scores and patterns `[prompt, head, query, key]`.
"""


class HookedAttention(nn.Module):
    """Attention sublayer that computes what `Attention` does, with a module for each activation."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.query, self.key, self.value, self.scores, self.pattern, self.z = (nn.Identity() for _ in range(6))

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        encoding: PositionalEncoding,
        score_bias: Float[Tensor, "#batch #heads length length"],
        output_positions: None = None,
    ) -> Float[Tensor, "batch length width"]:
        """Return the output at all positions. `score_bias` has axes `[.., key, query]`."""
        weights = self.attention.query_key_value.weight.chunk(3)
        query, key, value = (
            point(F.linear(x, weight).unflatten(-1, (self.attention.heads, -1))).transpose(1, 2)
            for point, weight in zip((self.query, self.key, self.value), weights, strict=True)
        )
        scores = encoding.rotate_by_position(query) @ encoding.rotate_by_position(key).mT / math.sqrt(query.shape[-1])
        pattern = self.pattern(self.scores(scores + score_bias.mT).softmax(-1))
        return self.attention.output(self.z((pattern @ value).transpose(1, 2)).flatten(-2))


def copy_with_hooked_attention(model: Transformer) -> Transformer:
    """Return a copy of a model in which every attention sublayer is a `HookedAttention` with the same weights."""
    model = deepcopy(model)
    for block in model.blocks:
        assert isinstance(block, Block)
        attention = block.attention.transformation
        assert isinstance(attention, Attention)
        block.attention.transformation = HookedAttention(attention)  # type: ignore[assignment]
    return model


def hook_points(model: Transformer) -> dict[str, nn.Module]:
    """Return the module that outputs each activation of a model with `HookedAttention`, by present and earlier name."""
    points: dict[str, nn.Module] = dict.fromkeys(("embed.hook_out", "hook_embed"), model.embedding)
    stream: nn.Module = model.dropout
    for layer, block in enumerate(model.blocks):
        prefix = f"blocks.{layer}."
        points |= dict.fromkeys((f"{prefix}hook_in", f"{prefix}hook_resid_pre"), stream)
        for name, earlier_name, path in LAYER_POINTS:
            points |= dict.fromkeys((prefix + name, prefix + earlier_name), block.get_submodule(path))
        stream = block.get_submodule("mlp")
    return points | dict.fromkeys(("ln_final.hook_out", "ln_final.hook_normalized"), model.norm)


def run_with_hooks(
    model: Transformer, tokens: Int[Tensor, "examples length"], hooks: Mapping[str, HookFunction]
) -> Float[Tensor, "examples vocabulary"]:
    """Return the logits for the token after each example, while each hook function gets the activation of its name.

    With full attention, all tokens of an example attend to each other. The states of donors stay as they are.

    Raises:
        UserError: there is no activation of that name, or a replacement has another shape.
    """
    return _run_hooked(copy_with_hooked_attention(model), tokens, hooks)


@torch.no_grad()
def _run_hooked(
    model: Transformer, tokens: Int[Tensor, "examples length"], hooks: Mapping[str, HookFunction]
) -> Float[Tensor, "examples vocabulary"]:
    """Run a model with `HookedAttention`, whose hooks stay there."""
    points, samples = hook_points(model), model.samples(tokens, last_position(tokens))
    is_pass_of_donors = True

    def begin_pass(module: nn.Module, arguments: tuple[Tensor]) -> None:
        nonlocal is_pass_of_donors
        is_pass_of_donors = arguments[0] is not samples.tokens

    def add_hook(name: str, function: HookFunction) -> None:
        def replace_output(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
            if is_pass_of_donors:
                return output
            edited = output.clone()
            replacement = function(edited, hook=HookPoint(name))
            replacement = edited if replacement is None else replacement
            if replacement.shape != output.shape:
                shapes = f"{list(replacement.shape)}, not {list(output.shape)}"
                raise UserError(f"hook {name}: its function returned an activation of shape {shapes}")
            return replacement

        points[name].register_forward_hook(replace_output)

    model.embedding.register_forward_pre_hook(begin_pass)
    for name, function in hooks.items():
        if name not in points:
            raise UserError(f"hook {shorten_value(name)}: there is no such activation{suggest_names(name, points)}")
        add_hook(name, function)
    last = model.residual_stream(samples.tokens, samples.attention_mask)[-1]
    return model.logits(last[:, -1:])[:, 0]


def run_with_cache(
    model: Transformer, tokens: Int[Tensor, "examples length"]
) -> tuple[Float[Tensor, "examples vocabulary"], dict[str, Tensor]]:
    """Return the logits for the token after each example, and all activations, by present and by earlier name."""
    cache: dict[str, Tensor] = {}
    hooked = copy_with_hooked_attention(model)

    def record(activation: Tensor, hook: HookPoint) -> None:
        cache[hook.name] = activation

    return _run_hooked(hooked, tokens, dict.fromkeys(hook_points(hooked), record)), cache
