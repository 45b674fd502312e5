"""Where in depth the symmetry breaks."""

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.measurement.registry import MeasurementInput, measurement, residual_stream
from pipeline.measurement.symmetry import permuted_prompts
from pipeline.measurement.tables import tidy


@measurement(
    "Where in depth does the symmetry break?",
    {
        "change_of_token": "relative change of a token's state when the tokens before the last are permuted",
        "change_in_place": "relative change of the state at the same position",
    },
    along_training=True,
)
def depth(subject: MeasurementInput) -> pd.DataFrame:
    """How much permuting the earlier tokens moves the residual stream, by depth and position: the norm of the change
    over the norm.

    `change_of_token` compares the state of a token with its state after it was moved; it is 0 wherever the model sees
    a set. `change_in_place` compares what stands at the same position. The last position holds the same token before
    and after, so there the two are one.
    """
    permuted = permuted_prompts(subject.examples)
    prompts, permutations, length = permuted.orders.shape
    before = residual_stream(subject.model, permuted.prompts)
    after = residual_stream(subject.model, permuted.tokens.view(-1, length)).unflatten(1, (prompts, permutations))
    changes = [change(*layer, permuted.orders) for layer in zip(before, after, strict=True)]
    of_token, in_place = (torch.stack(kind) for kind in zip(*changes, strict=True))
    return tidy(("depth", "position"), change_of_token=of_token, change_in_place=in_place)


def change(
    before: Float[Tensor, "prompts length width"],
    after: Float[Tensor, "prompts permutations length width"],
    orders: Int[Tensor, "prompts permutations length"],
) -> tuple[Float[Tensor, " length"], Float[Tensor, " length"]]:
    """Mean relative change at one depth, of the token that stood at each position and of what stands there.

    The token of `after[prompt, permutation, k]` stood at `orders[prompt, permutation, k]` before.
    """
    norm = torch.linalg.vector_norm
    size = norm(before, dim=-1)[:, None].expand(orders.shape)
    same_token = before[:, None].expand_as(after).gather(-2, orders[..., None].expand_as(after))
    moved = norm(after - same_token, dim=-1) / size.gather(-1, orders)
    # by where the token stood, not by where it went
    of_token = moved.gather(-1, orders.argsort(-1))
    in_place = norm(after - before[:, None], dim=-1) / size
    return of_token.mean((0, 1)), in_place.mean((0, 1))
