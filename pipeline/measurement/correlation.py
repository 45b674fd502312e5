"""Correlation: do the units of one position vary together, and with the units of other positions?"""

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.measurement.registry import MeasurementInput, measurement, tidy_table


@measurement(
    "Do the units above a position vary together?",
    {
        "within": "mean squared correlation of two units of the same position, less chance",
        "across": "mean squared correlation of two units of different positions, less chance",
    },
    no_effect_value=0.0,
)
def correlation(inputs: MeasurementInput) -> pd.DataFrame:
    """Mean squared Pearson correlation of two units of the same position (`within`), and of different positions
    (`across`), over independent random examples, minus the value for unrelated units, 1 / (examples - 1). `across` is 0
    if the states at each position depend on the token there alone."""
    excess = torch.stack([excess_correlation(states) for states in inputs.random_stream])
    return tidy_table(("depth",), within=excess[:, 0], across=excess[:, 1])


def excess_correlation(states: Float[Tensor, "examples length width"]) -> Float[Tensor, "2"]:
    """Mean squared correlation of units within and across positions, minus chance; constant units are left out."""
    examples, length, width = states.shape
    centred = (states - states.mean(0)).flatten(1)
    size = centred.norm(dim=0)
    varies = size > 1e-6 * size.max()
    units = torch.where(varies, centred / size.clamp(min=torch.finfo(size.dtype).tiny), 0.0).numpy()
    correlations = torch.from_numpy(units.T @ units)  # NumPy sees the symmetry and computes one half
    squares = correlations.square().fill_diagonal_(0.0).view(length, width, length, width).sum((1, 3))
    counts = varies.double().view(length, width).sum(1)
    pairs = counts.outer(counts) - counts.diag()  # number of squares, both [position, position]
    same, chance = torch.eye(length, dtype=pairs.dtype), 1 / (examples - 1)
    kinds = (same, 1 - same)
    return torch.stack([(squares * kind).sum() / (pairs * kind).sum().clamp(min=1.0) - chance for kind in kinds])
