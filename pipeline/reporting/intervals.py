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
    """Return the Clopper-Pearson 95 % interval of the share `successes / trials`."""
    interval = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE_LEVEL, method="exact")
    return float(interval.low), float(interval.high)


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


def summarise_restricted_mean(values: Any, budget: int) -> Summary:
    """Summarise the steps of runs, `budget` for a run that did not converge, by their mean.

    The interval combines that of Clopper and Pearson of the share that converged with Student's of the steps that these
    runs saved (see `summarise_difference`): Student's alone is too short where most runs are censored. If none
    converged, the lower limit is as if those that may converge did so at once.
    """
    values = np.asarray(values, float)
    saved = budget - values[values < budget]
    if len(saved) == len(values):
        return summarise_mean(values)
    n, share = len(values), len(saved) / len(values)
    lowest_share, highest_share = exact_share_interval(len(saved), n)
    mean = saved.mean() if len(saved) else float(budget)
    ends = interval_of_mean(mean, saved.std(ddof=1), len(saved)) if len(saved) > 1 else (0.0, budget)
    shift_low, shift_high = np.clip(ends, 0.0, budget) - mean
    below = np.hypot(mean * (share - lowest_share), share * shift_low)
    above = np.hypot(mean * (highest_share - share), share * shift_high)
    value = float(values.mean())
    low, high = max(0.0, value - float(above)), min(float(budget), value + float(below))
    return Summary(value=value, low=low, high=high, n=n, method="mean, Clopper-Pearson and t 95%; at least")


def summarise_difference(first: Summary, second: Summary) -> Summary:
    """Summarise the difference of two independent estimates, with the interval that follows from theirs.

    The method of variance estimates recovery, MOVER (Zou, Donner, Statistics in Medicine 2008), adds in squares how far
    each limit is from its estimate. `method` says on which side of the difference censored runs move the truth.
    """
    value = first["value"] - second["value"]
    low = value - np.hypot(first["value"] - first["low"], second["high"] - second["value"])
    high = value + np.hypot(first["high"] - first["value"], second["value"] - second["low"])
    bounds = {(True, False): "; at least", (False, True): "; at most", (True, True): "; up to the budget"}
    bound = bounds.get(("at least" in first["method"], "at least" in second["method"]), "")
    n = min(first["n"], second["n"])
    return Summary(value=value, low=float(low), high=float(high), n=n, method=f"difference, MOVER 95%{bound}")


def summarise_quotient(first: Summary, second: Summary) -> Summary:
    """Summarise the quotient of two independent, positive estimates (MOVER-R: Donner, Zou, Statistics in Medicine
    2012). The interval is NaN if the denominator's reaches 0."""
    (a, low_a, high_a), (b, low_b, high_b) = ((part["value"], part["low"], part["high"]) for part in (first, second))
    low = high = np.nan
    if low_b > 0 and 2 * b > high_b:
        far, near = high_b * (2 * b - high_b), low_b * (2 * b - low_b)
        low = (a * b - np.sqrt(max(0.0, (a * b) ** 2 - low_a * (2 * a - low_a) * far))) / far
        high = (a * b + np.sqrt(max(0.0, (a * b) ** 2 - high_a * (2 * a - high_a) * near))) / near
    difference = summarise_difference(first, second)  # has the same number of runs, and the same bound
    method = difference["method"].replace("difference", "ratio")
    return Summary(value=a / b if b else np.nan, low=float(low), high=float(high), n=difference["n"], method=method)


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
    pairs = np.array([numerators, denominators], float)
    n, means = pairs.shape[1], pairs.mean(axis=1)
    low = high = np.nan
    if n > 1:
        # ratios for which the mean of numerator - ratio * denominator does not differ from 0: a quadratic inequality
        squared_t = stats.t.ppf((1 + CONFIDENCE_LEVEL) / 2, n - 1) ** 2
        (constant, linear), (_, quadratic) = np.outer(means, means) - squared_t * np.cov(pairs) / n
        if quadratic > 0:
            low, high = sorted(np.roots([quadratic, -2 * linear, constant]).real)
    ratio = means[0] / means[1] if means[1] else np.nan
    return Summary(value=float(ratio), low=float(low), high=float(high), n=n, method="ratio, Fieller 95%")
