"""Effects of single residual connections, from all patterns of a stratum: a full factorial experiment.

The outcome is the area above the learning curve.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from pipeline.reporting.intervals import CONFIDENCE_LEVEL, Summary
from pipeline.search.space import Choices

Areas = Mapping[int, Sequence[float]]
"""Trial -> area above the learning curve of each of its runs that count, in steps; the same number for each trial."""
PERMUTATIONS = 9_999


def areas_of_common_rungs(runs: pd.DataFrame) -> Areas:
    """Return the areas of the runs (rows of `runs.csv`) in the rungs that all trials have.

    Their number does not depend on the trial. A trial gets further rungs by the results of its first ones.
    """
    trials = runs.groupby("rung")["trial"].transform("nunique")
    counted = runs[trials == runs["trial"].nunique()]
    return {int(str(trial)): group["area"].tolist() for trial, group in counted.groupby("trial")}


def removal_cost(areas: Areas, patterns: Mapping[int, Choices], name: str) -> Summary | None:
    """Summarise how much larger the area is without a residual connection, averaged over all pairs of patterns.

    In `patterns` (trial -> pattern) `name` is True without the connection. The p-value `p` is of a permutation test, in
    which runs are permuted between the two patterns of each pair. None if no two differ in this connection alone.
    """
    pairs = [cells for cells in _group(areas, patterns, [name]) if len(cells) == 2]
    if not pairs:
        return None
    runs = np.array([[areas[cells[True,]], areas[cells[False,]]] for cells in pairs])  # [pair, with or without, run]
    flat, generator = runs.reshape(len(pairs), -1), np.random.default_rng(0)
    totals = np.array([_difference(generator.permuted(flat, axis=1)) for _ in range(PERMUTATIONS)])
    extreme = (np.abs(totals) >= abs(_difference(flat)) * (1 - 1e-12)).sum()
    signs = [(1, cells[True,]) for cells in pairs] + [(-1, cells[False,]) for cells in pairs]
    return {**_summarise(areas, signs, len(pairs)), "p": float(1 + extreme) / (1 + PERMUTATIONS)}


def joint_removal_cost(areas: Areas, patterns: Mapping[int, Choices], names: tuple[str, str]) -> Summary:
    """Summarise how much more it costs to remove two connections than what each costs alone: their interaction."""
    squares = [cells for cells in _group(areas, patterns, names) if len(cells) == 4]
    signs = [(1 if key[0] == key[1] else -1, trial) for cells in squares for key, trial in cells.items()]
    return _summarise(areas, signs, len(squares))


def _group(areas: Areas, patterns: Mapping[int, Choices], names: Sequence[str]) -> list[dict[tuple[bool, ...], int]]:
    """Group the trials that have runs by all choices but `names`: a dictionary per group, these choices -> trial."""
    groups: dict[str, dict[tuple[bool, ...], int]] = {}
    for trial, pattern in patterns.items():
        if trial in areas:
            others = str([item for item in pattern.items() if item[0] not in names])
            groups.setdefault(others, {})[tuple(pattern[name] for name in names)] = trial
    return list(groups.values())


def _difference(runs: np.ndarray) -> float:
    """Return the sum of the first half of each row, less that of the second half."""
    half = runs.shape[1] // 2
    return float(runs[:, :half].sum() - runs[:, half:].sum())


def _summarise(areas: Areas, signs: Sequence[tuple[int, int]], count: int) -> Summary:
    """Summarise a signed sum of trials' means, divided by `count`, with the interval of Welch and Satterthwaite."""
    runs = np.array([areas[trial] for _, trial in signs])  # [trial, run]
    value = sum(sign * trial_runs.mean() for (sign, _), trial_runs in zip(signs, runs, strict=True)) / max(count, 1)
    parts = runs.var(axis=1, ddof=1) / runs.shape[1] / count**2 if runs.size > len(runs) else np.full(len(runs), np.nan)
    freedom = parts.sum() ** 2 / (parts**2 / (runs.shape[1] - 1)).sum() if parts.any() else np.nan
    half = stats.t.ppf((1 + CONFIDENCE_LEVEL) / 2, freedom) * np.sqrt(parts.sum())
    ends = {"low": float(value - half), "high": float(value + half)}
    return {"value": float(value), **ends, "n": runs.size, "method": "difference, Welch-Satterthwaite 95%"}
