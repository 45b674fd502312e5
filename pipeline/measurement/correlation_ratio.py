"""Whether a position's units vary together: the correlation ratio of vertical slices."""

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.measurement.registry import Subject, measurement
from pipeline.measurement.tables import tidy


@measurement(
    "Do the units above a position vary together?",
    {"ratio": "correlation within positions over correlation across", "reference": "without structure"},
)
def correlation_ratio(subject: Subject) -> pd.DataFrame:
    """Absolute Pearson correlations between all units of all positions, over independent random rows: their sum within
    the same position over their sum across positions; 1 / (positions - 1) where there is no structure."""
    ratios = torch.stack([ratio(layer) for layer in subject.random_stream])
    return tidy(("depth",), ratio=ratios, reference=torch.full_like(ratios, 1 / (subject.random.shape[1] - 1)))


def ratio(states: Float[Tensor, "rows length width"]) -> Float[Tensor, ""]:
    """The ratio at one depth. A unit's correlation with itself says nothing and is left out, its place being given the
    mean of the others; a unit that never varies correlates with nothing."""
    _, length, width = states.shape
    centred = (states - states.mean(0)).flatten(1)
    size = centred.norm(dim=0)
    varies = size > 1e-6 * size.max()
    unit = torch.where(varies, centred / size.clamp(min=torch.finfo(size.dtype).tiny), 0.0)
    units = unit.numpy()  # NumPy knows a product with itself to be symmetric, and computes one half
    sizes = torch.from_numpy(units.T @ units).abs().fill_diagonal_(0.0)
    correlation = sizes.view(length, width, length, width).sum((1, 3))
    within = correlation.diagonal().sum()
    return within * (width / (width - 1)) / (correlation.sum() - within)
