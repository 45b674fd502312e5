"""The race of seeds: a pattern gets further runs until it is decided whether training converges with it.

The rate at which runs of a pattern converge has Jeffreys' prior, Beta(1/2, 1/2). The pattern is decided when the
posterior probability that the rate is at least `search.converges_share` leaves [0.1, 0.9]. With a share of 0.75, two
failures of two decide against it, and it takes eight of eight runs to decide for it.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.params import Ablation

MIN_SURE = 0.9  # least posterior probability with which a pattern is decided
MIN_SURE_OF_MAP = 0.75
"""Least posterior probability with which the fewest connections are decided: simulated searches are then wrong in at
most 3 of 100 (reports/LOG.md, 2026-11-30)."""
FIRST_RUNG = 2  # seeds with which a pattern starts; each further rung has as many as all rungs before


def split_into_rungs(seeds: Sequence[int]) -> list[list[int]]:
    """Split seeds into rungs of 2, 2, 4, 8, ...; the last one may be shorter."""
    ends = [0, FIRST_RUNG]
    while ends[-1] < len(seeds):
        ends.append(2 * ends[-1])
    return [list(seeds[start:end]) for start, end in pairwise(ends)]


def probability_of_convergence(converged: int, runs: int, share: float) -> float:
    """Return the posterior probability that a pattern's rate of convergence is at least `share`."""
    return float(stats.beta.sf(share, 0.5 + converged, 0.5 + runs - converged))


def decide(converged: int, runs: int, share: float) -> Literal["converges", "does not converge", "undecided"]:
    """Return whether a pattern converges, or that this is undecided."""
    probability = probability_of_convergence(converged, runs, share)
    if 1 - MIN_SURE < probability < MIN_SURE:
        return "undecided"
    return "converges" if probability >= MIN_SURE else "does not converge"


def find_fewest_connections(trials: pd.DataFrame) -> dict[str, Any]:
    """Return the most probable least number of residual connections with which a pattern converges.

    `trials` has a row per pattern, with `residuals_kept` and `probability` (that it converges, independent of others).
    The result has `value` (NaN: none converges), its `probability`, `low` and `high` of the 90 % posterior interval
    (NaN where it includes that none converges), and `method`.
    """
    below, exactly, at_most = 1.0, {}, {}  # `below`: probability that no pattern with fewer connections converges
    for kept in sorted(set(trials["residuals_kept"])):
        none = below * float((1.0 - trials.loc[trials["residuals_kept"] == kept, "probability"]).prod())
        exactly[float(kept)], at_most[float(kept)] = below - none, 1.0 - none
        below = none
    exactly[np.nan] = below
    low, high = (min((kept for kept in at_most if at_most[kept] >= end), default=np.nan) for end in (0.05, 0.95))
    value = max(exactly, key=exactly.__getitem__)
    method = "proved" if below == 1.0 else "posterior mode, 90%"
    return {"value": value, "low": low, "high": high, "probability": exactly[value], "method": method}


def count_residuals(ablation: Ablation) -> int:
    """Return the number of residual connections that a model keeps."""
    free = ablation.model.residual_free
    return 2 * ablation.model.layers - len(free.attention) - len(free.mlp)
