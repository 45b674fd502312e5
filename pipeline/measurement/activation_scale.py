"""Activation scale: how large are the states that enter each sublayer, and how large is the sublayer's update?"""

import math

import pandas as pd
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.hooks import run_with_cache
from pipeline.measurement.registry import BATCH_SIZE, MeasurementInput, measurement
from pipeline.transformer.model import Block, Sublayer
from pipeline.transformer.substitutes import ResidualSubstitute


@measurement(
    "How large are the states that enter each norm?",
    {
        "entering": "root mean square of the states that enter the norm",
        "jacobian": "Frobenius norm of the norm's Jacobian, relative to the identity's",
        "update_share": "share of the sublayer's update in the states that leave it",
        "gate": "trained factor of the substitute for the residual connection",
    },
)
def activation_scale(inputs: MeasurementInput) -> pd.DataFrame:
    """Scale of the states at each layer norm, on validation examples: the root mean square of the states that enter the
    norm; the size of the norm's Jacobian, which multiplies every gradient that passes back (Frobenius norm, relative to
    the identity's); and the share of the sublayer's update in the squared length of the states that leave the sublayer
    (1 if nothing is carried past the sublayer). A norm enlarges small states, and with them their gradients. The last
    norm, before the logits, is called `output` and counted as one more layer.

    The gate is the factor of a substitute for a residual connection, 1 before training: near 0 the network has turned
    the substitute off. It is missing where there is no substitute.
    """
    model = inputs.model
    _, activations = run_with_cache(model, inputs.task_tokens[:BATCH_SIZE])
    norms: list[tuple[int, str, nn.LayerNorm, Tensor, float, float]] = []
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        names = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
        pre, mid, post, attention_out, mlp_out = (activations[f"blocks.{layer}.hook_{name}"] for name in names)
        attention, mlp = block.attention, block.mlp
        norms.append((layer, "attention", attention.norm, pre, update_share(attention_out, mid), gate_of(attention)))
        norms.append((layer, "mlp", mlp.norm, mid, update_share(mlp_out, post), gate_of(mlp)))
    norms.append((len(model.blocks), "output", model.norm, post, math.nan, math.nan))
    rows = [
        (layer, sublayer, root_mean_square(states), root_mean_square(relative_jacobian_norm(norm, states)), *others)
        for layer, sublayer, norm, states, *others in norms
    ]
    return pd.DataFrame(rows, columns=["layer", "sublayer", "entering", "jacobian", "update_share", "gate"])


def gate_of(sublayer: Sublayer) -> float:
    """Gate of a sublayer's substitute for its residual connection; NaN without a substitute."""
    return sublayer.substitute.gate.item() if isinstance(sublayer.substitute, ResidualSubstitute) else math.nan


def relative_jacobian_norm(norm: nn.LayerNorm, x: Float[Tensor, "*many width"]) -> Float[Tensor, "*many"]:
    """Frobenius norm of a layer norm's Jacobian at each state, divided by the Frobenius norm of the identity.

    A gradient in a random direction grows by this factor: about the inverse of the state's standard deviation.
    """
    width = x.shape[-1]
    centred = x - x.mean(-1, keepdim=True)
    squares = centred.square().sum(-1, keepdim=True)
    variance = squares / width + norm.eps
    # The Jacobian is diag(weight) (I - 1 1'/width - c c'/(width variance)) / sqrt(variance), with c the centred state.
    along = 1 / (width * variance)
    row_squares = 1 - 1 / width - (2 * along - along.square() * squares) * centred.square()
    return (norm.weight.square() * row_squares / variance).mean(-1).sqrt()


def root_mean_square(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


def update_share(update: Float[Tensor, "*shape"], leaving_states: Float[Tensor, "*shape"]) -> float:
    """Share of a sublayer's update in the squared length of the states that leave the sublayer; NaN for length 0."""
    update_size, carried_size = (root_mean_square(part) ** 2 for part in (update, leaving_states - update))
    total = update_size + carried_size
    return update_size / total if total else float("nan")
