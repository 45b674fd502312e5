"""Position erasure: does the answer stay right when states no longer differ between positions on average?"""

from collections.abc import Callable

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.measurement.common.interventions import ForwardPass, same_length_examples
from pipeline.measurement.common.scoring import exact_match
from pipeline.measurement.registry import MeasurementInput, measurement, residual_stream


@measurement(
    "Does the answer need the mean state of each position?",
    {
        "mean_erased": "exact match without the mean of each position",
        "size_erased": "exact match without the mean and the spread of each position",
        "sham": "exact match with states shifted as far in random directions",
        "untouched": "exact match of the unchanged model",
    },
    needs_answers=True,
    trained_only=True,
)
def position_erasure(inputs: MeasurementInput) -> pd.DataFrame:
    """Exact match on validation examples, each token of the answer given the true tokens before it, when at one depth
    the states of every position are shifted to the same mean (`mean_erased`), also scaled to the same spread
    (`size_erased`), or shifted as far in a random direction (`sham`). Later layers can then no longer read the position
    from the mean of the states."""
    examples = same_length_examples(inputs.examples)
    # In all rotations of an example every token is at every position equally often, so that the means of the positions
    # differ only because of the network.
    stream = residual_stream(inputs.model, all_rotations(inputs.random_tokens[:64]))
    unchanged = ForwardPass(inputs.model, examples.tokens, examples.positions)
    rows = []
    for depth, states in enumerate(stream):
        row: dict[str, float] = {"depth": depth}
        for column, edit in build_erasures(states).items():
            logits = unchanged.continue_from(depth, edit(unchanged.stream[depth]))
            row[column] = exact_match(logits, examples).item()
        rows.append(row | {"untouched": exact_match(unchanged.logits, examples).item()})
    return pd.DataFrame(rows)


def all_rotations(tokens: Int[Tensor, "examples length"]) -> Int[Tensor, "rotations length"]:
    """Return all rotations of every token sequence."""
    return torch.cat([tokens.roll(shift, 1) for shift in range(tokens.shape[1])])


def build_erasures(states: Float[Tensor, "examples length width"]) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return, for each column of the table of `position_erasure`, the function that edits states.

    The mean state of each position, and the spread around it, are computed from `states`.
    """
    mean = states.mean(0)
    overall_mean = mean.mean(0)
    spread = (states - mean).norm(dim=-1).mean(0)
    distance = (overall_mean - mean).norm(dim=-1, keepdim=True)
    direction = torch.randn(mean.shape, dtype=states.dtype, generator=torch.Generator().manual_seed(0))
    return {
        "mean_erased": lambda x: x - mean + overall_mean,
        "size_erased": lambda x: overall_mean + (x - mean) * (spread.mean() / spread)[:, None],
        "sham": lambda x: x + distance * direction / direction.norm(dim=-1, keepdim=True),
    }
