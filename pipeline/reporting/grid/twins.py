"""What order is worth: how many bits per token a cell takes more on a task's twin, which is the same but for the order
of what it is told."""

from collections.abc import Sequence

import pandas as pd

from pipeline.params import Cell
from pipeline.reporting.grid.comparisons import by_seed, scores
from pipeline.reporting.intervals import mean_of

COLUMNS = ("ablation", "twin", "seeds", "bits", "low", "high")


def twin(cells: Sequence[Cell], cell: Cell) -> Cell | None:
    """The same cell on the twin of its task, where the grid has it."""
    same = cell.task, cell.model, cell.training
    twins = [one for one in cells if one.task != cell.task and (one.task.untwinned, one.model, one.training) == same]
    return next(iter(twins), None)


def table(cells: Sequence[Cell], runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each cell that has a twin: the mean over their `seeds` of the twin's test bits per token less its own,
    with its t interval."""
    pairs = [(cell.name, other.name) for cell in cells if (other := twin(cells, cell))]
    scored = scores("test_bits", runs, 0) if pairs else pd.DataFrame()
    rows = []
    for name, twin_name in pairs:
        found = by_seed(scored, twin_name, name)
        rows.append([name, twin_name, len(found), *mean_of(found)])
    return pd.DataFrame([row for row in rows if row[2]], columns=list(COLUMNS))
