"""Steps to converge when some runs are censored: they had not converged when their budget ended (scipy)."""

import warnings

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.reporting.intervals import CONFIDENCE_LEVEL

MIN_RUNS_FOR_INTERVAL = 6
"""Smallest number of runs for which a survival curve has an interval; with fewer runs it would be too wide to draw."""


def unconverged_share_by_step(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the Kaplan-Meier estimate of the share of an ablation's runs that have not yet converged, by step.

    A run that did not converge is censored at its last step; one that diverged at the last step of the longest run.

    Returns:
        `step, share, low, high`: the share from each step on, with its pointwise 95 % interval (Greenwood's, on the
        log-log scale); the interval is NaN if there are fewer than `MIN_RUNS_FOR_INTERVAL` runs.
    """
    converged = runs["converged"] == 1
    last_step = runs["steps"].where(runs["diverged"] == 0, runs["steps"].max()).astype(float)
    steps_taken = runs.loc[converged, "steps_to_converge"].astype(float)
    curve = stats.ecdf(stats.CensoredData(steps_taken, right=last_step[~converged])).sf
    columns = {"step": curve.quantiles, "share": curve.probabilities, "low": np.nan, "high": np.nan}
    if len(runs) >= MIN_RUNS_FOR_INTERVAL:
        with warnings.catch_warnings(action="ignore"):  # scipy warns that a share of 0 or 1 has no interval
            interval = curve.confidence_interval(CONFIDENCE_LEVEL, method="log-log")
        columns |= {"low": interval.low.probabilities, "high": interval.high.probabilities}
    start = pd.DataFrame({"step": [0.0], "share": 1.0, "low": 1.0, "high": 1.0})
    return pd.concat([start, pd.DataFrame(columns)], ignore_index=True)


def restricted_steps(runs: pd.DataFrame, budget: int) -> "pd.Series[float]":
    """Return the steps to converge of each run, or `budget` for a run that took more or did not converge.

    The mean of these steps (the restricted mean survival time) includes the runs that failed.
    """
    return runs["steps_to_converge"].astype(float).fillna(np.inf).clip(upper=budget)
