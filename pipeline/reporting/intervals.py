"""Uncertainty of counts and means (scipy)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
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


def bootstrap_intervals(groups: Sequence[Sequence[float]]) -> Float[np.ndarray, "groups 2"]:
    """Percentile bootstrap intervals of means; those of as many values share their resamples. A single value is its own
    interval."""
    found = np.empty((len(groups), 2))
    for size in {len(group) for group in groups}:
        chosen = [index for index, group in enumerate(groups) if len(group) == size]
        values = np.array([list(groups[index]) for index in chosen], np.float64)
        if size == 1:
            found[chosen] = values
            continue
        interval = stats.bootstrap(
            (values,),
            np.mean,
            axis=-1,
            confidence_level=CONFIDENCE,
            n_resamples=RESAMPLES,
            batch=100,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        found[chosen] = np.stack((interval.low, interval.high), axis=-1)
    return found
