"""Make tables from arrays with named axes, and round measured numbers before they are written."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

SIGNIFICANT_DIGITS = 6
"""Number of significant digits to which measured numbers are rounded."""
MAX_DECIMALS = 10
"""Largest number of decimals of a written number: a true 0 is computed as up to 1e-13 (float64)."""


def tidy_table(index_columns: Sequence[str], **values: torch.Tensor | np.ndarray) -> pd.DataFrame:
    """Return a table with a row per element of the arrays: its index on each axis, then its value in each array."""
    arrays = {name: np.asarray(value, dtype=float) for name, value in values.items()}
    shape = next(iter(arrays.values())).shape
    indices = np.indices(shape).reshape(len(index_columns), -1)
    columns = dict(zip(index_columns, indices, strict=True))
    return pd.DataFrame(columns | {name: array.ravel() for name, array in arrays.items()})


def round_measured_values(table: pd.DataFrame) -> pd.DataFrame:
    """Round measured numbers to `SIGNIFICANT_DIGITS` significant digits and at most `MAX_DECIMALS` decimals.

    Another number of threads, BLAS library or processor changes a number by 1e-12 or less, mostly by 1e-15, so that the
    rounded number is the same. This is likely, not certain: a number right at the edge between two roundings may still
    fall on either side. That happens to at most one in a million numbers of ordinary size, and to one in thousands
    below 1e-4.
    """
    measured = table.select_dtypes("float64")
    kept = measured.round(MAX_DECIMALS) + 0.0  # no minus zero
    return table.assign(**kept.map(lambda number: float(f"{number:.{SIGNIFICANT_DIGITS}g}")))
