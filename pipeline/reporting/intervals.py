"""Uncertainty of counts (scipy) and means."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9_999
AT_ONCE = 256
"""Means that are resampled together, which bounds the memory."""


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
    """Percentile bootstrap intervals of means (Efron 1979); those of as many values share their resamples. A single
    value is its own interval.

    A mean of a resample is a product with how often each value was drawn, which is many times as fast as to draw them.
    """
    found = np.empty((len(groups), 2))
    for size in {len(group) for group in groups}:
        chosen = np.array([index for index, group in enumerate(groups) if len(group) == size])
        drawn = np.random.default_rng(0).multinomial(size, np.full(size, 1 / size), RESAMPLES).T.astype(np.float64)
        for some in np.array_split(chosen, 1 + len(chosen) // AT_ONCE):
            values = np.array([list(groups[index]) for index in some])
            first = values[:, :1]  # what is the same in all of them must not be rounded
            means = first + (values - first) @ drawn / size
            found[some] = np.quantile(means, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), axis=-1).T
    return found
