"""Tables made from arrays with named axes, and the digits of measured numbers that are written."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

DIGITS = 6
"""Significant digits of a measured number."""
DECIMALS = 10
"""Decimals of a measured number: where the true value is 0, rounding errors (float64) reach 1e-13."""


def tidy(axes: Sequence[str], **values: torch.Tensor | np.ndarray) -> pd.DataFrame:
    """Return a table with a row per index of the arrays: the indices (columns `axes`), then the arrays `values`."""
    arrays = {name: np.asarray(value, dtype=float) for name, value in values.items()}
    shape = next(iter(arrays.values())).shape
    indices = np.indices(shape).reshape(len(axes), -1)
    return pd.DataFrame(dict(zip(axes, indices, strict=True)) | {name: array.ravel() for name, array in arrays.items()})


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Round measured numbers to `DIGITS` significant digits and at most `DECIMALS` decimals.

    Another number of threads, BLAS library or processor changes a number by 1e-12 or less, mostly by 1e-15, so that the
    rounded number is the same. This is likely, not certain: a number right at the edge between two roundings may still
    fall on either side. That happens to at most one in a million numbers of ordinary size, and to one in thousands
    below 1e-4.
    """
    measured = table.select_dtypes("float64")
    kept = measured.round(DECIMALS) + 0.0  # no minus zero
    return table.assign(**kept.map(lambda number: float(f"{number:.{DIGITS}g}")))
