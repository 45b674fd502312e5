"""Position probe: can the position be read from the residual stream?"""

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.measurement.common.linear_probe import regression_scores
from pipeline.measurement.common.tables import tidy_table
from pipeline.measurement.registry import MeasurementInput, measurement

PAIR_EXAMPLE_COUNT = 200
"""Number of examples whose pairs of positions are probed: an example of 11 tokens has 55 pairs."""


@measurement(
    "Is position readable?",
    {"r2": "share of the variance that a linear probe explains", "error": "mean absolute error, in positions"},
    no_effect_value=0.0,
)
def position_probe(inputs: MeasurementInput) -> pd.DataFrame:
    """Scores of linear probes at each depth, from one state to its position and from two states to their distance. The
    effect of training is the difference to the same run before training, because the states of a random network already
    differ between positions."""
    tables = []
    for name, stream in {"random": inputs.random_stream, "task": inputs.task_stream}.items():
        position = torch.arange(stream.shape[2])
        first, second = torch.triu_indices(len(position), len(position), offset=1)
        pairs = torch.stack((first, second))
        scores = {
            "position": probe_scores(stream, position[None], position),
            "distance": probe_scores(stream[:, :PAIR_EXAMPLE_COUNT], pairs, second - first),
        }
        tables += [
            tidy_table(("depth",), **columns).assign(inputs=name, target=target) for target, columns in scores.items()
        ]
    keys = ["inputs", "target", "depth"]
    return pd.concat(tables).sort_values(["inputs", "depth"], kind="stable")[[*keys, "error", "r2"]]


def probe_scores(
    stream: Float[Tensor, "depths examples length width"],
    state_positions: Int[Tensor, "sides samples"],
    targets: Int[Tensor, " samples"],
) -> dict[str, Float[Tensor, " depths"]]:
    """Return error and R² by depth of a probe that predicts `targets[n]` from the states at `state_positions[:, n]`."""
    labels = targets.double().expand(stream.shape[1], -1)[..., None]
    # One depth at a time takes two thirds of the time of all at once, because intermediate results stay in the cache.
    scores = [regression_scores(states[None], state_positions, labels) for states in stream]
    return {name: torch.cat([getattr(score, name) for score in scores])[:, 0] for name in ("error", "r2")}
