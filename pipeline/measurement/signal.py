"""How large the signal is that each sublayer finds, what its norm does to gradients, and how much of what leaves the
sublayer is its own."""

from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.measurement.cache import run_with_cache
from pipeline.measurement.registry import ROWS_AT_ONCE, MeasurementInput, measurement
from pipeline.transformer.model import Block


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
def signal(subject: MeasurementInput) -> pd.DataFrame:
    """What each norm finds, on validation rows: the root mean square of the states that enter it; the size of its
    Jacobian, which multiplies every gradient that passes (Frobenius norm, that of the identity is 1); and behind it the
    share of the sublayer's update in the squared length of what it is added to and of itself: 1 where nothing is
    carried past it. A small signal is normalised all the same, and what is handed back is a large gradient. The last
    norm, called `output` and counted as one layer more, is that before the logits."""
    model = subject.model
    _, seen = run_with_cache(model, subject.tokens[:ROWS_AT_ONCE])

    def row(layer: int, name: str, norm: nn.LayerNorm, entering: Tensor, update_share: float) -> dict[str, Any]:
        sizes = {"entering": entering, "jacobian": jacobian_size(norm, entering)}
        where = {"layer": layer, "sublayer": name}
        return where | {of: root_mean_square(size) for of, size in sizes.items()} | {"update_share": update_share}

    found = []
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        pre, mid, post, attended, worked = (
            seen[f"blocks.{layer}.hook_{name}"]
            for name in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
        )
        found.append(row(layer, "attention", block.attention.norm, pre, share(attended, mid)))
        found.append(row(layer, "mlp", block.mlp.norm, mid, share(worked, post)))
    return pd.DataFrame([*found, row(len(model.blocks), "output", model.norm, post, float("nan"))])


def share(update: Float[Tensor, "*shape"], leaving: Float[Tensor, "*shape"]) -> float:
    """Of the update in the squared length of itself and of what it is added to; NaN where both are nothing."""
    own, carried = (root_mean_square(part) ** 2 for part in (update, leaving - update))
    return own / (own + carried) if own + carried else float("nan")
