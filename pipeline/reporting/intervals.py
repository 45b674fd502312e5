"""Confidence intervals of shares, means and ratios (scipy)."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE_LEVEL = 0.95
"""Confidence level of all intervals in the reports."""


class Interval(NamedTuple):
    """The lower and the upper limit of a confidence interval."""

    low: float
    high: float


class ValueInterval(NamedTuple):
    """An estimated value with the lower and the upper limit of its confidence interval."""

    value: float
    low: float
    high: float


@cache  # a report needs few different counts, each of them often
def exact_share_interval(successes: int, trials: int) -> Interval:
    """Return the Clopper-Pearson 95 % interval of the share `successes / trials`; 0 to 1 if `trials` is 0."""
    if trials == 0:
        return Interval(0.0, 1.0)
    interval = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE_LEVEL, method="exact")
    return Interval(float(interval.low), float(interval.high))


def binomial_p_value(successes: int, trials: int, null_share: float) -> float:
    """Return the probability of at least `successes` in `trials` if the true share is `null_share`; 1 for no trials."""
    if trials == 0:
        return 1.0
    return float(stats.binomtest(successes, trials, null_share, alternative="greater").pvalue)


def interval_of_mean(mean: Any, deviation: Any, value_count: Any) -> tuple[Any, Any]:
    """Return the lower and upper limit of Student's t 95 % interval of a mean; NaN for the mean of a single value.

    Args:
        mean: one mean or an array of means.
        deviation: standard deviation of the values (computed with n - 1), in the shape of `mean`.
        value_count: number of values that were averaged, in the shape of `mean`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        half_width = (
            stats.t.ppf((1 + CONFIDENCE_LEVEL) / 2, np.asarray(value_count) - 1.0) * deviation / np.sqrt(value_count)
        )
    return mean - half_width, mean + half_width


def mean_with_interval(values: Any) -> ValueInterval:
    """Return the mean of the values with its Student's t 95 % interval, which is NaN for a single value."""
    values = np.asarray(values, float)
    deviation = values.std(ddof=1) if len(values) > 1 else np.nan
    return ValueInterval(
        *(float(number) for number in (values.mean(), *interval_of_mean(values.mean(), deviation, len(values))))
    )


def ratio_of_means(numerators: Any, denominators: Any) -> ValueInterval:
    """Return mean(numerators) / mean(denominators) of paired values, with Fieller's 95 % interval (1954).

    The interval is NaN for a single pair, and where the mean of the denominators does not differ significantly from 0,
    since then no ratio can be excluded.
    """
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    n, mean_top, mean_bottom = len(top), top.mean(), bottom.mean()
    ratio = mean_top / mean_bottom if mean_bottom else np.nan
    if n < 2 or not mean_bottom:
        return ValueInterval(ratio, np.nan, np.nan)
    (variance_top, covariance), (_, variance_bottom) = np.cov(top, bottom) / n
    t = stats.t.ppf((1 + CONFIDENCE_LEVEL) / 2, n - 1)
    g = t**2 * variance_bottom / mean_bottom**2
    if g >= 1:
        return ValueInterval(ratio, np.nan, np.nan)
    centre = (ratio - t**2 * covariance / mean_bottom**2) / (1 - g)
    spread = (
        variance_top
        - 2 * ratio * covariance
        + ratio**2 * variance_bottom
        - t**2 * (variance_top * variance_bottom - covariance**2) / mean_bottom**2
    )
    half_width = t / (abs(mean_bottom) * (1 - g)) * np.sqrt(max(spread, 0.0))
    return ValueInterval(ratio, centre - half_width, centre + half_width)
