"""Uncertainty of counts and means (scipy)."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """From `low` to `high`, both included."""

    low: float
    high: float


class ValueInterval(NamedTuple):
    """A value, and its interval from `low` to `high`."""

    value: float
    low: float
    high: float


@cache  # a report asks a few counts very often
def exact_interval(successes: int, trials: int) -> Interval:
    """Clopper-Pearson interval of a share; everything is possible where nothing was tried."""
    if trials == 0:
        return Interval(0.0, 1.0)
    interval = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="exact")
    return Interval(float(interval.low), float(interval.high))


def binomial_p_value(successes: int, trials: int, bound: float) -> float:
    """p-value of so many successes or more, if the true share is at most `bound` (exact, one-sided); 1 of no trials."""
    if trials == 0:
        return 1.0
    return float(stats.binomtest(successes, trials, bound, alternative="greater").pvalue)


def mean_interval(mean: Any, deviation: Any, n: Any) -> tuple[Any, Any]:
    """Student's t interval of the mean of `n` values whose standard deviation (of n - 1) is `deviation`, of numbers or
    arrays of one shape; NaN of a single value."""
    with np.errstate(divide="ignore", invalid="ignore"):
        half = stats.t.ppf((1 + CONFIDENCE) / 2, np.asarray(n) - 1.0) * deviation / np.sqrt(n)
    return mean - half, mean + half


def mean_with_interval(values: Any) -> ValueInterval:
    """The mean of these values, with its t interval; NaN limits of a single one."""
    values = np.asarray(values, float)
    deviation = values.std(ddof=1) if len(values) > 1 else np.nan
    return ValueInterval(
        *(float(number) for number in (values.mean(), *mean_interval(values.mean(), deviation, len(values))))
    )


def ratio_of_means(values: Any, others: Any) -> ValueInterval:
    """The mean of paired values over that of the others, with Fieller's interval (1954); NaN limits of a single pair
    and where the mean of the others is not told from 0, so that no ratio can be ruled out."""
    one, other = np.asarray(values, float), np.asarray(others, float)
    n, (top, bottom) = len(one), (one.mean(), other.mean())
    ratio = top / bottom if bottom else np.nan
    if n < 2 or not bottom:
        return ValueInterval(ratio, np.nan, np.nan)
    (of_one, both), (_, of_other) = np.cov(one, other) / n
    t = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
    g = t**2 * of_other / bottom**2
    if g >= 1:
        return ValueInterval(ratio, np.nan, np.nan)
    middle = (ratio - t**2 * both / bottom**2) / (1 - g)
    inside = of_one - 2 * ratio * both + ratio**2 * of_other - t**2 * (of_one * of_other - both**2) / bottom**2
    half = t / (abs(bottom) * (1 - g)) * np.sqrt(max(inside, 0.0))
    return ValueInterval(ratio, middle - half, middle + half)
