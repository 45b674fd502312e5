"""How much of what a missing residual connection costs is given back by what stands in for it."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from pipeline import cells as grid
from pipeline.params import Cell
from pipeline.reporting.grid.comparisons import by_seed, scores
from pipeline.reporting.intervals import ratio_of_means

COLUMNS = ("ablation", "plain", "whole", "budget", "seeds", "rescue", "rescue_low", "rescue_high")


class Trio(NamedTuple):
    """Three cells that are alike but for one residual connection or more."""

    substituted: Cell
    """Has something in its stead."""
    plain: Cell
    """Lacks it."""
    whole: Cell
    """Has it."""


def trios(cells: Sequence[Cell]) -> list[Trio]:
    """Every cell with a substitute whose plain and whole twins the grid has, in the order of the plain ones."""
    plain = [(cell, whole) for cell in filter(grid.is_plain, cells) if (whole := grid.whole(cells, cell))]
    return [
        Trio(cell, lacking, whole)
        for lacking, whole in plain
        for cell in cells
        if cell != lacking and cell in grid.like(cells, lacking, residual_substitute=cell.model.residual_substitute)
    ]


def table(cells: Sequence[Cell], runs: pd.DataFrame) -> pd.DataFrame:
    """A row per trio: `rescue`, the steps that the substitute saves over the steps that the whole cell saves, means
    over the seeds that all three have of the steps to converge up to the `budget`, with Fieller's 95% interval (none
    where the data do not tell the whole cell from the plain one): 0 nothing is given back, 1 all."""
    rows = []
    for substituted, plain, whole in trios(cells):
        budget = min(cell.training.steps for cell in (substituted, plain, whole))
        of = runs[runs["seed"].isin({*substituted.training.seeds} & {*plain.training.seeds} & {*whole.training.seeds})]
        scored = scores("restricted_steps", of, budget)
        saved, most = (by_seed(scored, plain.name, one.name) for one in (substituted, whole))
        if len(saved):
            names = (substituted.name, plain.name, whole.name)
            rows.append([*names, budget, len(saved), *ratio_of_means(saved, most)])
    return pd.DataFrame(rows, columns=list(COLUMNS))
