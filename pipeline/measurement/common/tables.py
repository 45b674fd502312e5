"""Tables made from arrays with named axes, and the digits of measured numbers that are written."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

SIGNIFICANT_DIGITS = 6
"""Number of significant digits to which measured numbers are rounded."""
DECIMALS = 10
"""Largest number of decimals of measured numbers: where the true value is 0, rounding errors (float64) reach 1e-13."""


def tidy_table(index_columns: Sequence[str], **values: torch.Tensor | np.ndarray) -> pd.DataFrame:
    """Return a table with a row per element of the arrays: its index on each axis, then its value in each array."""
    arrays = {name: np.asarray(value, dtype=float) for name, value in values.items()}
    shape = next(iter(arrays.values())).shape
    indices = np.indices(shape).reshape(len(index_columns), -1)
    return pd.DataFrame(
        dict(zip(index_columns, indices, strict=True)) | {name: array.ravel() for name, array in arrays.items()}
    )


def round_measured_values(table: pd.DataFrame) -> pd.DataFrame:
    """Round measured numbers to `DIGITS` significant digits and at most `DECIMALS` decimals.

    Another number of threads, BLAS library or processor changes a number by 1e-12 or less, mostly by 1e-15, so that the
    rounded number is the same. This is likely, not certain: a number right at the edge between two roundings may still
    fall on either side. That happens to at most one in a million numbers of ordinary size, and to one in thousands
    below 1e-4.
    """
    measured = table.select_dtypes("float64")
    kept = measured.round(DECIMALS) + 0.0  # no minus zero
    return table.assign(**kept.map(lambda number: float(f"{number:.{SIGNIFICANT_DIGITS}g}")))
