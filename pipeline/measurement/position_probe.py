"""Position probe: can the position be read from the residual stream?"""

import pandas as pd
import torch

from pipeline.measurement.common.linear_probe import regression_scores
from pipeline.measurement.registry import MeasurementInput, measurement, tidy_table


@measurement(
    "Is position readable?",
    {"r2": "share of the variance that a linear probe explains", "error": "mean absolute error, in positions"},
    no_effect_value=0.0,
)
def position_probe(inputs: MeasurementInput) -> pd.DataFrame:
    """Scores of linear probes at each depth, from one state to its position and from two states to their distance. The
    effect of training is the difference to the same run before training, because the states of a random network already
    differ between positions."""
    tables = {}
    for name, stream in inputs.streams.items():
        length = stream.shape[2]
        position, pairs = torch.arange(length), torch.triu_indices(length, length, offset=1)
        few = stream[:, :200]  # an example of 11 tokens has 55 pairs
        probes = {"position": (stream, position[None], position), "distance": (few, pairs, pairs[1] - pairs[0])}
        for target, (states, state_positions, numbers) in probes.items():
            labels = numbers.double().expand(states.shape[1], -1)[..., None]
            error, r2 = regression_scores(states, state_positions, labels)
            tables[name, target] = tidy_table(("depth",), error=error[:, 0], r2=r2[:, 0])
    keys = ["inputs", "target"]
    return pd.concat(tables, names=keys).reset_index(keys).sort_values(["inputs", "depth"], kind="stable")
