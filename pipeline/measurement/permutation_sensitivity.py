"""Permutation sensitivity: where in depth do states begin to depend on the order of earlier tokens?"""

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.measurement.common.permutations import permuted_prompts
from pipeline.measurement.common.tables import tidy
from pipeline.measurement.registry import MeasurementInput, measurement, residual_stream


@measurement(
    "Where in depth does the symmetry break?",
    {
        "change_of_token": "relative change of a token's state when the tokens before the last are permuted",
        "change_in_place": "relative change of the state at the same position",
    },
    along_training=True,
)
def permutation_sensitivity(inputs: MeasurementInput) -> pd.DataFrame:
    """Relative change of the residual stream, by depth and position, when the tokens before the last are permuted: the
    norm of the change over the norm of the state.

    `change_of_token` follows a token to its new position: it is 0 as long as the model treats the tokens as a set.
    `change_in_place` compares the states at one position. They are equal at the last position, whose token stays.
    """
    permuted = permuted_prompts(inputs.examples)
    prompts, permutations, length = permuted.orders.shape
    before = residual_stream(inputs.model, permuted.prompts)
    after = residual_stream(inputs.model, permuted.tokens.view(-1, length)).unflatten(1, (prompts, permutations))
    changes = [relative_changes(*states, permuted.orders) for states in zip(before, after, strict=True)]
    of_token, in_place = (torch.stack(change) for change in zip(*changes, strict=True))
    return tidy(("depth", "position"), change_of_token=of_token, change_in_place=in_place)


def relative_changes(
    before: Float[Tensor, "prompts length width"],
    after: Float[Tensor, "prompts permutations length width"],
    orders: Int[Tensor, "prompts permutations length"],
) -> tuple[Float[Tensor, " length"], Float[Tensor, " length"]]:
    """Mean relative change at one depth, of the state of each token (by its position before) and at each position.

    The token of `after[prompt, permutation, k]` was at position `orders[prompt, permutation, k]` before.
    """
    norm = torch.linalg.vector_norm
    size = norm(before, dim=-1)[:, None].expand(orders.shape)
    same_token = before[:, None].expand_as(after).gather(-2, orders[..., None].expand_as(after))
    change = norm(after - same_token, dim=-1) / size.gather(-1, orders)
    of_token = change.gather(-1, orders.argsort(-1))  # from the position after to the position before
    in_place = norm(after - before[:, None], dim=-1) / size
    return of_token.mean((0, 1)), in_place.mean((0, 1))
