"""The runs found in the authors' public notebooks, to lie beside ours.

`residual_ablation_runs.csv` holds 218 runs of C. Zuo, M. Guerzhoy, "Breaking Symmetry When Training Transformers"
(arXiv 2402.05969): causal decoders of 6 layers whose layers, counted from 0, lack both residual connections.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pandas as pd

from pipeline import cells as grid
from pipeline.params import Cell

LAYERS, HEADS, WIDTH = 6, 6, 384
OPTIMIZER = "adamw"


@dataclass(frozen=True)
class Published:
    """The published runs of one cell; exact match as shares, each the maximum over a run's evaluations."""

    runs: int
    median: float
    low: float
    """The smallest of the runs' maxima."""
    high: float


@cache
def runs() -> pd.DataFrame:
    """All of them: `positional, residual_free_layers, run, max_test_exact_match_percent`."""
    content = files("pipeline.reporting.grid").joinpath("residual_ablation_runs.csv")
    with content.open() as file:
        return pd.read_csv(file, dtype={"residual_free_layers": str}, keep_default_na=False)


def for_cell(cell: Cell) -> Published | None:
    """The published runs beside a cell, or None where there are none.

    A counterpart is causal, has the same positional encoding, and lacks both residual connections in layers of the
    same numbers. One layer has no counterpart: it is order-blind without positional encoding, six are not.
    """
    model, free = cell.model, cell.model.residual_free
    if model.attention != "causal" or free.attention != free.mlp or model.layers == 1:
        return None
    usual = [one for one in grid.SWITCHES if one.neutral is not None and one.field != "residual_free"]
    if any(switch.of(cell) != switch.neutral for switch in usual):
        return None
    table = runs()
    missing = " ".join(map(str, free.mlp))  # as the file has it
    same = (table["positional"] == model.positional) & (table["residual_free_layers"] == missing)
    shares = table.loc[same, "max_test_exact_match_percent"] / 100
    if shares.empty:
        return None
    return Published(len(shares), float(shares.median()), float(shares.min()), float(shares.max()))


def differences(cell: Cell) -> str:
    """What of the cell's size and optimizer is not as theirs was, in words."""
    theirs = {"layers": LAYERS, "heads": HEADS, "width": WIDTH, "optimizer": OPTIMIZER}
    return "; ".join(
        f"{switch.words(switch.of(cell))}, not {switch.words(theirs[switch.field])}"
        for switch in grid.SWITCHES
        if switch.field in theirs and switch.of(cell) != theirs[switch.field]
    )
