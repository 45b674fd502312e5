"""Why a missing residual connection makes training hard, and why a substitute helps: what the next norm finds."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from pipeline import cells as grid
from pipeline.params import Cell
from pipeline.reporting.claims import Claim, Estimate, Unit, rows_at
from pipeline.reporting.grid import comparisons
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.figures import measured
from pipeline.reporting.grid.finding import Column, Finding, by_cell, by_panel, section


@section("mechanism", 65, "What does the norm after a missing connection find?", tells=["signal"])
def signal(evidence: Evidence) -> Finding | None:
    """Each cell that lacks residual connections beside the same cell with all, at the norm that comes next."""
    table = evidence.measured("signal")
    pairs = comparisons.wholes(evidence.cells)
    if table.empty or not pairs:
        return None
    whole = {cell.name: other for cell, other in pairs}

    def at(value: str, unit: Unit, of: Cell, place: Cell, trained: int) -> Estimate | None:
        return evidence.mean("signal", value, unit, of, trained=trained, **next_norm(place))

    def column(value: str, unit: Unit, trained: int, beside: bool = False) -> Column:
        return lambda cell: at(value, unit, whole[cell.name] if beside else cell, cell, trained)

    columns = {
        f"{words}{', whole' * beside}{', trained' * trained}": column(value, "number", trained, beside)
        for value, words in (("entering", "RMS"), ("jacobian", "Jacobian"))
        for trained, beside in ((0, False), (0, True), (1, False), (1, True))
    }
    caption = (
        "Root mean square of what enters the norm after the missing connections, and size of its Jacobian, before and "
        "after training: mean over seeds (t 95% interval)"
    )
    claims = []
    for cell, other in pairs:
        if not grid.is_plain(cell):
            continue
        estimates = {
            f"{name}_{value}": at(value, "number", one, cell, 0)
            for name, one in (("plain", cell), ("whole", other))
            for value in ("entering", "jacobian")
        }
        if all(estimates.values()):
            claims.append(Claim("before", estimates, {"plain": cell.name, "whole": other.name}))
    lacking = [cell for cell, _ in pairs]
    figure = by_panel(
        evidence,
        "signal",
        "Root mean square of what enters the norm after the missing connections, along training, by cell",
        "A line per seed.",
        lambda cells: measured.along_training(
            pd.concat(_there(table, cells)), cells, "entering", label="Root mean square", log=True
        ),
        among=lacking,
    )
    return Finding(claims, [by_cell(lacking, columns, caption)], [figure])


def next_norm(cell: Cell) -> dict[str, Any]:
    """Where the first norm is that finds what the last of the missing connections would have carried."""
    free, layer = cell.model.residual_free, max(cell.model.residual_free.layers)
    if layer not in free.mlp:
        return {"layer": layer, "sublayer": "mlp"}
    return {"layer": layer + 1, "sublayer": "attention" if layer + 1 < cell.model.layers else "output"}


def _there(table: pd.DataFrame, cells: Sequence[Cell]) -> Iterator[pd.DataFrame]:
    for cell in cells:
        yield rows_at(table, {"ablation": cell.name, **next_norm(cell)})
