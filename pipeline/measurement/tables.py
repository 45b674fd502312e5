"""From arrays with named axes to tables with a row per cell of the array, and the digits of them that are written."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

DIGITS = 6
"""Significant digits of a measured number."""
DECIMALS = 10
"""Decimals beyond which a measured number is noise: rounding (float64) leaves up to 1e-13 where there is nothing."""


def tidy(axes: Sequence[str], **values: torch.Tensor | np.ndarray) -> pd.DataFrame:
    """A row per index, counted from 0: the columns `axes`, then each array of `values`, all of one shape."""
    arrays = {name: np.asarray(value, dtype=float) for name, value in values.items()}
    shape = next(iter(arrays.values())).shape
    indices = np.indices(shape).reshape(len(axes), -1)
    return pd.DataFrame(dict(zip(axes, indices, strict=True)) | {name: array.ravel() for name, array in arrays.items()})


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """The digits that are written of measured numbers: `DIGITS` significant ones, none beyond `DECIMALS`.

    Other threads, another BLAS or another processor move a number by 1e-12 or less, mostly by 1e-15, and so they write
    the same. That is likely, not certain: a number so close to where rounding turns from down to up may still end in
    another digit. Of numbers of ordinary size that is one in a million or fewer, of those below 1e-4 one in thousands.
    """
    measured = table.select_dtypes("float64")
    kept = measured.round(DECIMALS) + 0.0  # no minus zero
    return table.assign(**kept.map(lambda number: float(f"{number:.{DIGITS}g}")))
