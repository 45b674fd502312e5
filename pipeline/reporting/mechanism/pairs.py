"""Which cells belong together, and what they measured, seed by seed."""

import math
from collections.abc import Callable, Sequence

import pandas as pd

from pipeline.measurement.intervals import bootstrap_interval
from pipeline.reporting import cells as grid
from pipeline.reporting.comparisons import Paired, corrected, paired, smallest_p
from pipeline.reporting.evidence import each
from pipeline.reporting.wording import plural

START = "residual_free_initialisation"
ALPHA = 0.05
"""What p must be below for a difference to be called clear."""


def initial(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the untrained members."""
    return table[(table["trained"] == 0) & (table["step"] == 0)]


def trained(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the members as their last step left them."""
    return table[table["trained"] == 1]


def with_start(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells, started normally where nothing is said about it."""
    return cells if START in cells else cells.assign(**{START: "normal"})


def whole(cells: pd.DataFrame) -> list[tuple[str, str]]:
    """Each residual-free cell with the one that has every residual connection and differs in nothing else."""
    cells = with_start(cells)
    pairs = []
    for cell in each(cells[grid.residual_free(cells)]):
        same = {key: cell[key] for key in grid.PROPERTIES if key not in (*grid.SUBLAYERS, START)}
        counterpart = grid.find(cells, **same, residual_free_attention="", residual_free_mlp="")
        pairs += [(cell["ablation"], name) for name in counterpart["ablation"].head(1)]
    return pairs


def controls(cells: pd.DataFrame) -> list[tuple[str, str]]:
    """Each residual-free cell that starts normally with the one that starts as the identity and is otherwise equal."""
    cells = with_start(cells)
    pairs = []
    for cell in each(cells[grid.residual_free(cells) & (cells[START] == "normal")]):
        same = {key: cell[key] for key in grid.PROPERTIES if key != START}
        control = grid.find(cells, **same, residual_free_initialisation="identity")
        pairs += [(cell["ablation"], name) for name in control["ablation"].head(1)]
    return pairs


def difference(values: pd.DataFrame, value: str, first: str, second: str) -> Paired | None:
    """First minus second, seed by seed; None without a shared seed.

    Args:
        values: `ablation, seed` and the column `value`, a row per member; rows without a value are left out.
    """
    scores = values.dropna(subset=[value])[["ablation", "seed"]].assign(test_exact_match=values[value])
    return paired(scores, first, second)


def compared(values: pd.DataFrame, value: str, pairs: Sequence[tuple[str, str]]) -> list[Paired | None]:
    """The `difference` of each pair, Holm-corrected over them."""
    return corrected([difference(values, value, *pair) for pair in pairs])


def estimate(values: Sequence[float], say: Callable[[float], str]) -> str:
    """`mean (low to high)`, the bootstrap interval of the mean; equal values alone, `–` for none. What is not a
    number is left out."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    mean, low, high = (say(value) for value in (sum(known) / len(known), *bootstrap_interval(known)))
    return mean if low == high else f"{mean} ({low} to {high})"


def caution(found: Sequence[Paired | None]) -> str:
    """That p cannot be small with so few seeds and so many comparisons; empty where it can."""
    told = [comparison for comparison in found if comparison]
    seeds = max((comparison.seeds for comparison in told), default=0)
    least = min(1.0, smallest_p(seeds) * len(told))
    if not told or least <= ALPHA:
        return ""
    return (
        f" With {plural(seeds, 'shared seed')} and {plural(len(told), 'comparison')} p cannot fall below {least:.2g} "
        f"however large the difference is, so read the differences, not p."
    )
