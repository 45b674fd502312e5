"""Cells compared seed by seed: runs that share a seed share their data order, so differences say more than means."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from pipeline.reporting.page import Table
from pipeline.reporting.tables import answered
from pipeline.reporting.wording import p_value, plural, points


@dataclass(frozen=True)
class Paired:
    """Test exact match of one cell minus another's, over the seeds both have."""

    seeds: int
    median: float
    low: float
    """The smallest difference of any seed."""
    high: float
    p: float
    """Two-sided sign-flip permutation test of the mean difference; Holm-corrected if said so."""


def paired(runs: pd.DataFrame, first: str, second: str) -> Paired | None:
    """`first` minus `second`, seed by seed; None where the two ablations share no seed."""
    scores = runs.assign(score=answered(runs))
    both = [scores[scores["ablation"] == name].set_index("seed")["score"] for name in (first, second)]
    differences = (both[0] - both[1]).dropna().sort_index().to_numpy(float)
    if not len(differences):
        return None
    return Paired(
        seeds=len(differences),
        median=float(np.median(differences)),
        low=float(differences.min()),
        high=float(differences.max()),
        p=_sign_flip(differences),
    )


def _sign_flip(differences: np.ndarray) -> float:
    """Exact up to 13 seeds, then from 9,999 random flips (always the same ones)."""
    if len(differences) == 1 or not differences.any():
        return 1.0
    result = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=9_999, rng=np.random.default_rng(0)
    )
    return float(result.pvalue)


def corrected(comparisons: Sequence[Paired | None]) -> list[Paired | None]:
    """The same comparisons with their p-values Holm-corrected for how many there are."""
    present = [comparison for comparison in comparisons if comparison]
    if not present:
        return list(comparisons)
    p_values = iter(multipletests([comparison.p for comparison in present], method="holm")[1])
    return [comparison and replace(comparison, p=float(next(p_values))) for comparison in comparisons]


def smallest_p(seeds: int) -> float:
    """The smallest p-value the sign-flip test can give with so many seeds."""
    return min(1.0, 2.0 / 2**seeds)


def compared(runs: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> tuple[list[str], list[Table]]:
    """What to read into the differences of these pairs of ablations, and the table of them.

    Both are empty where there is nothing to compare.
    """
    found = corrected([paired(runs, *pair) for pair in pairs])
    told = [(pair, comparison) for pair, comparison in zip(pairs, found, strict=True) if comparison]
    if not told:
        return (["The cells share no seed, so their runs are not compared pair by pair."] if pairs else []), []
    seeds = max(comparison.seeds for _, comparison in told)
    least = min(1.0, smallest_p(seeds) * len(told))
    holm = f", Holm-corrected over {len(told)} comparisons" if len(told) > 1 else ""
    text = (
        f"Seed by seed, in percentage points of test exact match (sign-flip permutation test{holm}): see the table "
        f"below. "
    )
    if least > 0.05:
        text += (
            f"With {plural(seeds, 'shared seed')}{f' and {len(told)} comparisons' * (len(told) > 1)} p "
            f"cannot fall below {least:.2g} however large the difference is, so read the differences, not p."
        )
    rows = [
        [
            f"`{first}` − `{second}`",
            str(comparison.seeds),
            points(comparison.median),
            points(comparison.low),
            points(comparison.high),
            p_value(comparison.p).removeprefix("p = "),
        ]
        for (first, second), comparison in told
    ]
    headers = ["Difference", "Shared seeds", "Median", "Min", "Max", "p"]
    return [text.strip()], [Table(headers, rows, caption="Difference in test exact match, percentage points")]
