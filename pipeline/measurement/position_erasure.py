"""Position erasure: does the answer survive when the mean state of every position is made the same?"""

from collections.abc import Callable

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.measurement.common.permutations import same_length_examples
from pipeline.measurement.common.scoring import answer_logits, answers_are_correct
from pipeline.measurement.registry import MeasurementInput, measurement, residual_stream
from pipeline.transformer.model import edit_at_depth

EXAMPLE_COUNT = 64
"""Number of random examples from which the mean state of each position is computed.

Each example is read in all rotations, so that every token is at every position equally often, and the means differ only
because of the network."""


@measurement(
    "Does the answer need the mean state of each position?",
    {
        "mean_erased": "exact match without the mean of each position",
        "size_erased": "exact match without the mean and the spread of each position",
        "sham": "exact match with states shifted as far in random directions",
        "untouched": "exact match of the unchanged model",
    },
    needs_answers=True,
)
@torch.no_grad()
def position_erasure(inputs: MeasurementInput) -> pd.DataFrame:
    """Exact match on validation examples, each token of the answer given the true tokens before it, when at one depth
    the states of every position are shifted to the same mean (`mean_erased`), also scaled to the same spread
    (`size_erased`), or shifted as far in a random direction (`sham`). Later layers can then no longer read the position
    from the mean of the states."""
    examples = same_length_examples(inputs.examples)
    length = examples.tokens.shape[1]
    stream = residual_stream(inputs.model, all_rotations(inputs.random_tokens[:EXAMPLE_COUNT, :length]))

    def exact_match(depth: int, erase: Callable[[Tensor], Tensor]) -> float:
        logits = answer_logits(inputs.model, examples, edit_states=edit_at_depth(depth, erase))
        return answers_are_correct(logits, examples).double().mean().item()

    untouched = exact_match(0, lambda x: x)
    rows = []
    for depth, states in enumerate(stream):
        by_column = {column: exact_match(depth, erase) for column, erase in build_erasures(states).items()}
        rows.append({"depth": depth, **by_column, "untouched": untouched})
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
