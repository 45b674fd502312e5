"""Tests of a difference between runs of two ablations: permutation of runs, sign flips of seeds, log-rank."""

from math import comb

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats
from statsmodels.duration.survfunc import survdiff
from statsmodels.stats.power import TTestIndPower

MAX_SPLITS, DRAW_COUNT = 3_000_000, 100_000
"""Largest number of splits of the runs in two groups that are all counted, and number of random splits otherwise."""
TARGET_POWER = 0.8
"""Probability with which `runs_needed` runs detect a difference."""
MAX_RUNS_NEEDED = 200
"""Largest number of runs that `runs_needed` tries."""
Values = Float[np.ndarray, " _"]


def permutation_p_value(first: Values, second: Values) -> float:
    """Return the p-value of a two-sided permutation test that two groups of runs have the same distribution.

    It is the share of splits of all runs in groups of these sizes whose means differ at least as much as observed. All
    splits are counted if there are at most `MAX_SPLITS`, otherwise random ones (the same in every call).
    """
    deviations = np.concatenate([first, second]) - np.mean([*first, *second])
    size, tolerance = len(first), 1e-9 * (1.0 + np.abs(deviations).max())
    # the sum of the first group's deviations from the mean of all runs is proportional to the difference of the means
    extreme = abs(deviations[:size].sum()) - tolerance
    splits = comb(len(deviations), size)
    if splits > MAX_SPLITS:
        drawn = np.random.default_rng(0).permuted(np.tile(deviations, (DRAW_COUNT, 1)), axis=1)[:, :size].sum(1)
        return float((1 + (np.abs(drawn) >= extreme).sum()) / (1 + DRAW_COUNT))
    # for each subset of the first half of the runs, count the matching ones of the second (Horowitz, Sahni 1974)
    first_half, second_half = (_subset_sums(half) for half in np.array_split(deviations, 2))
    smaller = 0  # splits whose means differ less than observed
    for chosen, sums in first_half.items():
        others = np.sort(second_half.get(size - chosen, np.empty(0)))
        below, above = np.searchsorted(others, -extreme - sums, "right"), np.searchsorted(others, extreme - sums)
        smaller += int(np.maximum(above - below, 0).sum())
    return (splits - smaller) / splits


def _subset_sums(values: Values) -> dict[int, Values]:
    """Return the sums of all subsets of `values`, by the number of their elements."""
    is_chosen = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1
    sizes, sums = is_chosen.sum(1), is_chosen @ values
    return {size: sums[sizes == size] for size in range(len(values) + 1)}


def smallest_p_value(first_count: int, second_count: int) -> float:
    """Return the smallest p-value that the permutation test of groups of these sizes can give."""
    return min(1.0, (2.0 if first_count == second_count else 1.0) / comb(first_count + second_count, first_count))


def sign_flip_p_value(differences: Values) -> float:
    """Return the p-value of a two-sided sign-flip test that the mean of paired differences is 0.

    Up to 13 differences, all sign flips are enumerated; for more, 9,999 random ones (the same in every call).
    """
    if len(differences) < 2 or not differences.any():
        return 1.0
    options = {"permutation_type": "samples", "n_resamples": 9_999, "rng": np.random.default_rng(0)}
    return float(stats.permutation_test((differences,), np.mean, **options).pvalue)


def log_rank_p_value(first: "pd.Series[float]", second: "pd.Series[float]", budget: int) -> float:
    """Return the p-value of a log-rank test of the steps of two groups, up to `budget`; 1 if no run converged."""
    steps = pd.concat([first, second])
    converged = steps < budget
    if not converged.any():
        return 1.0
    group = np.repeat([0, 1], [len(first), len(second)])
    return float(survdiff(steps, converged.astype(int), group)[1])


def runs_needed(first: Values, second: Values, significance_level: float) -> float:
    """Return how many new runs per ablation would detect a difference as large as the observed one.

    They detect it with probability `TARGET_POWER`, by the t test, whose power is nearly that of the permutation test.
    NaN if that takes more than `MAX_RUNS_NEEDED`, or if the runs of each group are equal.
    """
    spread = np.sqrt((np.var(first, ddof=1) + np.var(second, ddof=1)) / 2) if min(len(first), len(second)) > 1 else 0.0
    if not spread:
        return np.nan
    effect = abs(np.mean(first) - np.mean(second)) / spread
    for n in range(2, MAX_RUNS_NEEDED + 1):
        can_decide = smallest_p_value(n, n) <= significance_level
        if can_decide and TTestIndPower().power(effect, n, significance_level) >= TARGET_POWER:
            return float(n)
    return np.nan
