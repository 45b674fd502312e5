"""Whether the units of a position vary together, and those of different positions."""

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.measurement.registry import MeasurementInput, measurement
from pipeline.measurement.tables import tidy


@measurement(
    "Do the units above a position vary together?",
    {
        "within": "mean squared correlation of two units of the same position, less chance",
        "across": "mean squared correlation of two units of different positions, less chance",
    },
    reference=0.0,
)
def correlation(subject: MeasurementInput) -> pd.DataFrame:
    """Squared Pearson correlations between the units of all positions, over independent random rows, less what as many
    unrelated rows would give by chance, 1 / (rows - 1): the mean over pairs of units of the same position (`within`),
    and of two positions (`across`). Vertical slices that keep to themselves have nothing across."""
    found = torch.stack([excess(layer) for layer in subject.random_stream])
    return tidy(("depth",), within=found[:, 0], across=found[:, 1])


def excess(states: Float[Tensor, "rows length width"]) -> Float[Tensor, "2"]:
    """Within and across at one depth; units that never vary do not count."""
    rows, length, width = states.shape
    centred = (states - states.mean(0)).flatten(1)
    size = centred.norm(dim=0)
    varies = size > 1e-6 * size.max()
    units = torch.where(varies, centred / size.clamp(min=torch.finfo(size.dtype).tiny), 0.0).numpy()
    correlations = torch.from_numpy(units.T @ units)  # NumPy knows it to be symmetric, and computes one half
    pairs = (varies[:, None] & varies).double().fill_diagonal_(0.0)
    position = torch.arange(length).repeat_interleave(width)
    same = position[:, None] == position
    return torch.stack(
        [
            (correlations.square() * chosen).sum() / chosen.sum().clamp(min=1.0) - 1 / (rows - 1)
            for chosen in (pairs * same, pairs * ~same)
        ]
    )
