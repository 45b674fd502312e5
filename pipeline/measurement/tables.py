"""From arrays with named axes to tables with a row per cell of the array."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch


def tidy(axes: Sequence[str], **values: torch.Tensor | np.ndarray) -> pd.DataFrame:
    """A row per index, counted from 0: the columns `axes`, then each array of `values`, all of one shape."""
    arrays = {name: np.asarray(value, dtype=float) for name, value in values.items()}
    shape = next(iter(arrays.values())).shape
    indices = np.indices(shape).reshape(len(axes), -1)
    return pd.DataFrame(dict(zip(axes, indices, strict=True)) | {name: array.ravel() for name, array in arrays.items()})
