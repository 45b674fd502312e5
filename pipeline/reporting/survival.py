"""Steps to converge, of which a budget says of some runs only that they took more (scipy)."""

import warnings

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.reporting.intervals import CONFIDENCE

MIN_RUNS = 6
"""So many runs it takes at least for the interval of a curve to say anything."""


def not_yet_converged(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the Kaplan-Meier estimate of the share of an ablation's runs that have not yet converged, by step.

    A run that did not converge is censored at its last step; one that diverged at the last step of the longest run.

    Returns:
        `step, share, low, high`: from each step on, the share of runs not yet converged, with its pointwise 95%
        interval (Greenwood's, on the log-log scale), which is missing where there are fewer than `LEAST` runs.
    """
    converged = runs["converged"] == 1
    ended = runs["steps"].where(runs["diverged"] == 0, runs["steps"].max()).astype(float)
    taken = runs.loc[converged, "steps_to_converge"].astype(float)
    curve = stats.ecdf(stats.CensoredData(taken, right=ended[~converged])).sf
    rows = {"step": curve.quantiles, "share": curve.probabilities, "low": np.nan, "high": np.nan}
    if len(runs) >= MIN_RUNS:
        with warnings.catch_warnings(action="ignore"):  # that where the share is one or zero there is no interval
            interval = curve.confidence_interval(CONFIDENCE, method="log-log")
        rows |= {"low": interval.low.probabilities, "high": interval.high.probabilities}
    begun = pd.DataFrame({"step": [0.0], "share": 1.0, "low": 1.0, "high": 1.0})
    return pd.concat([begun, pd.DataFrame(rows)], ignore_index=True)


def restricted_steps(runs: pd.DataFrame, budget: int) -> "pd.Series[float]":
    """Steps to converge of each run, or `budget` where it took more: what is known of every run whatever its outcome,
    so that their mean (RMST) compares ablations without leaving out those that failed."""
    return runs["steps_to_converge"].astype(float).fillna(np.inf).clip(upper=budget)
