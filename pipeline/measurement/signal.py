"""How large the signal is that each sublayer finds, what its norm does to gradients, and how much of what leaves the
sublayer is its own."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.measurement.registry import ROWS_AT_ONCE, Subject, measurement, stream
from pipeline.transformer.model import Sublayer, Transformer


def jacobian_size(norm: nn.LayerNorm, x: Float[Tensor, "*many width"]) -> Float[Tensor, "*many"]:
    """Frobenius norm of the Jacobian of a layer norm at each state, over that of the identity: by how much it enlarges
    a gradient that points anywhere. About the inverse of the state's standard deviation."""
    width = x.shape[-1]
    centred = x - x.mean(-1, keepdim=True)
    squares = centred.square().sum(-1, keepdim=True)
    variance = squares / width + norm.eps
    # The Jacobian is diag(weight) (I - 1 1'/width - c c'/(width variance)) / sqrt(variance), with c the centred state.
    along = 1 / (width * variance)
    rows = 1 - 1 / width - (2 * along - along.square() * squares) * centred.square()
    return (norm.weight.square() * rows / variance).mean(-1).sqrt()


def root_mean_square(x: Tensor) -> float:
    """Of all its numbers."""
    return x.square().mean().sqrt().item()


@measurement(
    "How large is the signal?",
    {
        "entering": "root mean square of what enters the norm",
        "jacobian": "size of the norm's Jacobian",
        "update_share": "share of the sublayer's own update in what leaves it",
    },
    along_training=True,
)
@torch.no_grad()
def signal(subject: Subject) -> pd.DataFrame:
    """What each norm finds, on validation rows: the root mean square of the states that enter it; the size of its
    Jacobian, which multiplies every gradient that passes (Frobenius norm, that of the identity is 1); and behind it the
    share of the sublayer's update in the squared length of what it is added to and of itself: 1 where nothing is
    carried past it. A small signal is normalised all the same, and what is handed back is a large gradient. The last
    norm, called `output` and counted as one layer more, is that before the logits."""
    seen, model = watched(subject), subject.model

    def row(layer: int, name: str, norm: nn.LayerNorm, update_share: float) -> dict[str, Any]:
        size = root_mean_square(jacobian_size(norm, seen[norm]))
        entering = root_mean_square(seen[norm])
        return {"layer": layer, "sublayer": name, "entering": entering, "jacobian": size, "update_share": update_share}

    found = []
    for layer, name, sublayer in sublayers(model):
        update = seen[sublayer.dropout]
        own, carried = (root_mean_square(part) ** 2 for part in (update, seen[sublayer] - update))
        found.append(row(layer, name, sublayer.norm, own / (own + carried) if own + carried else float("nan")))
    return pd.DataFrame([*found, row(len(model.blocks), "output", model.norm, float("nan"))])


def sublayers(model: Transformer) -> Iterator[tuple[int, str, Sublayer]]:
    """Every sublayer: its layer, its name there, and itself."""
    for layer, block in enumerate(model.blocks):
        for name, sublayer in block.named_children():
            assert isinstance(sublayer, Sublayer)
            yield layer, name, sublayer


def watched(subject: Subject) -> dict[nn.Module, Float[Tensor, "rows length width"]]:
    """What enters each norm, and what leaves each sublayer and its transformation, for a few of the task's rows."""
    seen: dict[nn.Module, Tensor] = {}

    def entering(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen[module] = inputs[0]

    def leaving(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        seen[module] = output  # rows that lend their states come before the others, which overwrite them

    hooks = [
        hook
        for _, _, sublayer in sublayers(subject.model)
        for hook in (
            sublayer.norm.register_forward_pre_hook(entering),
            sublayer.dropout.register_forward_hook(leaving),
            sublayer.register_forward_hook(leaving),
        )
    ]
    try:
        seen[subject.model.norm] = stream(subject.model, subject.tokens[:ROWS_AT_ONCE])[-1]
    finally:
        for hook in hooks:
            hook.remove()
    return seen
