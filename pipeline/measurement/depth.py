"""Where in depth the symmetry breaks."""

import pandas as pd
import torch

from pipeline.measurement.registry import Subject, measurement
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
def depth(subject: Subject) -> pd.DataFrame:
    """How much permuting the earlier tokens moves the residual stream, by depth and position: the norm of the change
    over the norm.

    `change_of_token` compares the state of a token with its state after it was moved; it is 0 wherever the model sees
    a set. `change_in_place` compares what stands at the same position. The last position holds the same token before
    and after, so there the two are one.
    """
    permuted = permuted_prompts(subject.rows)
    prompts, permutations, length = permuted.orders.shape
    before = subject.stream(permuted.prompts)[:, :, None]
    after = subject.stream(permuted.tokens.reshape(-1, length)).unflatten(1, (prompts, permutations))
    came_from = permuted.orders[None, ..., None].expand_as(after)
    same_token = before.expand_as(after).gather(-2, came_from)
    norm = torch.linalg.vector_norm
    moved = norm(after - same_token, dim=-1) / norm(same_token, dim=-1)
    # by where the token stood, not by where it went
    back = permuted.orders.argsort(-1)[None].expand_as(moved)
    of_token = moved.gather(-1, back).mean((1, 2))
    in_place = (norm(after - before, dim=-1) / norm(before, dim=-1)).mean((1, 2))
    return tidy(("depth", "position"), change_of_token=of_token, change_in_place=in_place)
