"""Uncertainty of counts and means (scipy)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9_999


class Interval(NamedTuple):
    """From `low` to `high`, both included."""

    low: float
    high: float


def exact_interval(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Clopper-Pearson interval of a share; everything is possible where nothing was tried."""
    if trials == 0:
        return Interval(0.0, 1.0)
    interval = stats.binomtest(successes, trials).proportion_ci(confidence, method="exact")
    return Interval(float(interval.low), float(interval.high))


def exceeds(successes: int, trials: int, bound: float) -> float:
    """p-value of so many successes or more, if the true share is at most `bound` (exact, one-sided); 1 of no trials."""
    if trials == 0:
        return 1.0
    return float(stats.binomtest(successes, trials, bound, alternative="greater").pvalue)


def bootstrap_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Percentile bootstrap interval of a mean; a single or constant value is its own interval."""
    if len(set(values)) <= 1:
        return Interval(float(values[0]), float(values[0]))
    result = stats.bootstrap(
        (np.asarray(values, float),),
        np.mean,
        confidence_level=confidence,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return Interval(float(result.confidence_interval.low), float(result.confidence_interval.high))
