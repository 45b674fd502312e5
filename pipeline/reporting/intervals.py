"""Confidence intervals of shares, means and ratios (scipy)."""

from functools import cache
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE_LEVEL = 0.95
"""Confidence level of all intervals in the reports."""
IMPOSSIBLE = "share, impossible by proof"
"""Method of a share that is 0 because success is impossible by proof."""


Summary = dict[str, Any]
"""Columns `value, low, high, n, method` of `estimates.csv`; `method` names how `low` and `high` were computed."""


@cache  # a report needs few different counts, each of them often
def exact_share_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the Clopper-Pearson 95 % interval of the share `successes / trials`; 0 to 1 if `trials` is 0."""
    if trials == 0:
        return 0.0, 1.0
    interval = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE_LEVEL, method="exact")
    return float(interval.low), float(interval.high)


def binomial_p_value(successes: int, trials: int, null_share: float) -> float:
    """Return the probability of at least `successes` in `trials` if the true share is `null_share`; 1 for no trials."""
    return float(stats.binom.sf(successes - 1, trials, null_share))


def interval_of_mean(mean: Any, deviation: Any, value_count: Any) -> tuple[Any, Any]:
    """Return the lower and upper limit of Student's t 95 % interval of a mean; NaN for the mean of a single value.

    `deviation` is the standard deviation of the values (computed with n - 1). All three are numbers, or all are arrays.
    """
    t = stats.t.ppf((1 + CONFIDENCE_LEVEL) / 2, np.asarray(value_count) - 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        half_width = t * deviation / np.sqrt(value_count)
    return mean - half_width, mean + half_width


def summarise_mean(values: Any) -> Summary:
    """Summarise values by their mean, with its Student's t 95 % interval, NaN for a single value."""
    values = np.asarray(values, float)
    mean, deviation = values.mean(), values.std(ddof=1) if len(values) > 1 else np.nan
    low, high = interval_of_mean(mean, deviation, len(values))
    return Summary(value=float(mean), low=float(low), high=float(high), n=len(values), method="mean, t 95%")


def summarise_median(values: Any) -> Summary:
    """Summarise values by their median, with their range."""
    values = np.asarray(values, float)
    low, median, high = float(values.min()), float(np.median(values)), float(values.max())
    return Summary(value=median, low=low, high=high, n=len(values), method="median, range")


def summarise_share(successes: int, trials: int, *, impossible: bool = False) -> Summary:
    """Summarise successes by their share, with its Clopper-Pearson interval; without one if success is impossible."""
    low, high = (np.nan, np.nan) if impossible else exact_share_interval(successes, trials)
    method = IMPOSSIBLE if impossible else "share, Clopper-Pearson 95%"
    return Summary(value=successes / trials, low=low, high=high, n=trials, method=method)


def summarise_ratio(numerators: Any, denominators: Any) -> Summary:
    """Summarise paired values by the ratio of their means, with Fieller's 95 % interval (1954).

    The interval is NaN for a single pair, and where the mean of the denominators does not differ significantly from 0,
    since then no ratio can be excluded.
    """
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    n, mean_top, mean_bottom = len(top), top.mean(), bottom.mean()
    ratio = float(mean_top / mean_bottom) if mean_bottom else np.nan
    summary = Summary(value=ratio, low=np.nan, high=np.nan, n=n, method="ratio, Fieller 95%")
    if n < 2 or not mean_bottom:
        return summary
    (variance_top, covariance), (_, variance_bottom) = np.cov(top, bottom) / n
    t = stats.t.ppf((1 + CONFIDENCE_LEVEL) / 2, n - 1)
    g = t**2 * variance_bottom / mean_bottom**2
    if g >= 1:
        return summary
    centre = (ratio - t**2 * covariance / mean_bottom**2) / (1 - g)
    spread = variance_top - 2 * ratio * covariance + ratio**2 * variance_bottom
    spread -= t**2 * (variance_top * variance_bottom - covariance**2) / mean_bottom**2
    half_width = t / (abs(mean_bottom) * (1 - g)) * np.sqrt(max(spread, 0.0))
    return summary | {"low": float(centre - half_width), "high": float(centre + half_width)}
