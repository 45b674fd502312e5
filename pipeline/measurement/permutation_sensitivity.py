"""Permutation sensitivity: where in depth do states begin to depend on the order of earlier tokens?"""

import pandas as pd
import torch

from pipeline.measurement.common.interventions import permuted_prompts
from pipeline.measurement.registry import MeasurementInput, measurement, tidy_table


@measurement(
    "Where in depth does the symmetry break?",
    {
        "change_of_token": "relative change of a token's state when the tokens before the last are permuted",
        "change_in_place": "relative change of the state at the same position",
    },
)
def permutation_sensitivity(inputs: MeasurementInput) -> pd.DataFrame:
    """Relative change of the residual stream, by depth and position, when the tokens before the last are permuted: the
    norm of the change over the norm of the state.

    `change_of_token` follows the token at a position of the prompt to its new position: it is 0 as long as the model
    treats the tokens as a set.
    `change_in_place` compares the states at one position. They are equal at the last position, whose token stays.
    """
    orders, norm = permuted_prompts(inputs.examples).token_orders[None], torch.linalg.vector_norm
    before, after = inputs.permuted_stream.tensor_split([1], dim=2)  # [depth, prompt, order, position, unit]
    size, same_token = norm(before, dim=-1), before.take_along_dim(orders[..., None], dim=-2)
    change = norm(after - same_token, dim=-1) / size.take_along_dim(orders, dim=-1)
    of_token = change.take_along_dim(orders.argsort(-1), dim=-1)  # from the position after to the position before
    in_place = norm(after - before, dim=-1) / size
    means = {"change_of_token": of_token.mean((1, 2)), "change_in_place": in_place.mean((1, 2))}
    return tidy_table(("depth", "position"), **means)
