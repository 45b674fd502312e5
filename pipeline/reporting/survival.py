"""Steps to converge when some runs are censored: they had not converged when their budget ended."""

import numpy as np
import pandas as pd


def restricted_steps(runs: pd.DataFrame, budget: int) -> "pd.Series[float]":
    """Return the steps to converge of each run, or `budget` for a run that took more or did not converge.

    The mean of these steps (the restricted mean survival time) includes the runs that failed.
    """
    return runs["steps_to_converge"].astype(float).fillna(np.inf).clip(upper=budget)
