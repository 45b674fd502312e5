"""Permutation sensitivity: where in depth do states begin to depend on the order of earlier tokens?"""

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.measurement.common.permutations import permuted_prompts
from pipeline.measurement.common.tables import tidy_table
from pipeline.measurement.registry import MeasurementInput, measurement, residual_stream


@measurement(
    "Where in depth does the symmetry break?",
    {
        "change_of_token": "relative change of a token's state when the tokens before the last are permuted",
        "change_in_place": "relative change of the state at the same position",
    },
    includes_snapshots=True,
)
def permutation_sensitivity(inputs: MeasurementInput) -> pd.DataFrame:
    """Relative change of the residual stream, by depth and position, when the tokens before the last are permuted: the
    norm of the change over the norm of the state.

    `change_of_token` follows a token to its new position: it is 0 as long as the model treats the tokens as a set.
    `change_in_place` compares the states at one position. They are equal at the last position, whose token stays.
    """
    permuted = permuted_prompts(inputs.examples)
    prompts, permutations, length = permuted.token_orders.shape
    before = residual_stream(inputs.model, permuted.prompts)
    after = residual_stream(inputs.model, permuted.tokens.view(-1, length)).unflatten(1, (prompts, permutations))
    changes = [relative_changes(*states, permuted.token_orders) for states in zip(before, after, strict=True)]
    of_token, in_place = (torch.stack(change) for change in zip(*changes, strict=True))
    return tidy_table(("depth", "position"), change_of_token=of_token, change_in_place=in_place)


def relative_changes(
    original_states: Float[Tensor, "prompts length width"],
    permuted_states: Float[Tensor, "prompts permutations length width"],
    token_orders: Int[Tensor, "prompts permutations length"],
) -> tuple[Float[Tensor, " length"], Float[Tensor, " length"]]:
    """Mean relative change of states by permutations: of each token's state, and of the state at each position.

    Tokens are listed by their position in the original prompt: the token at position k of permutation i of prompt p was
    at position `token_orders[p, i, k]`.
    """
    norm = torch.linalg.vector_norm
    size = norm(original_states, dim=-1)[:, None].expand(token_orders.shape)
    same_token = original_states[:, None].take_along_dim(token_orders[..., None], dim=-2)
    change = norm(permuted_states - same_token, dim=-1) / size.gather(-1, token_orders)
    of_token = change.gather(-1, token_orders.argsort(-1))  # from the position after to the position before
    in_place = norm(permuted_states - original_states[:, None], dim=-1) / size
    return of_token.mean((0, 1)), in_place.mean((0, 1))
