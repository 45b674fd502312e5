"""Can the position be read from the residual stream by a linear probe?"""

from typing import Any

from pipeline.params import Cell
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.grid.comparisons import depth_to_read
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.figures import measured
from pipeline.reporting.grid.finding import LINES, Column, Finding, by_cell, by_layer, by_panel, section


@section("mechanism", 30, "Is position readable?", tells=["position_probe"])
def position_probe(evidence: Evidence) -> Finding | None:
    """R² of the position by cell and depth, and cells that lack a connection beside whole ones at equal depth."""
    table = evidence.measured("position_probe")
    if table.empty:
        return None

    def r2(cell: Cell, depth: int, *, trained: int = 1, **keys: Any) -> Estimate | None:
        where: dict[str, Any] = {"rows": "random", "target": "position", "depth": depth} | keys
        return evidence.mean("position_probe", "r2", "number", cell, trained=trained, **where)

    def at(depth: int, trained: int) -> Column:
        return lambda cell: r2(cell, depth, trained=trained)

    def last(**keys: Any) -> Column:
        return lambda cell: r2(cell, cell.model.layers, **keys)

    depths = range(int(table["depth"].max()) + 1)
    by_depth = [
        by_cell(evidence.cells, {f"Depth {depth}": at(depth, trained) for depth in depths}, caption)
        for trained, caption in ((1, "R² of position, as trained"), (0, "R² of position, before training"))
    ]
    others = {"R² of distance": last(target="distance"), "R² of position, task rows": last(rows="task")}

    def about(cell: Cell, whole: Cell) -> dict[str, Estimate | None]:
        depth = depth_to_read(cell)
        return {
            "lacking": r2(cell, depth),
            "whole": r2(whole, depth),
            "lacking_before": r2(cell, depth, trained=0),
            "whole_before": r2(whole, depth, trained=0),
            "more": evidence.compared("position_r2", cell, whole),
        }

    estimates, layers = by_layer(evidence.cells, about)
    claims = [Claim("answer", estimates, {"layers": layers}, place="lead")] if layers else []
    position = table[(table["rows"] == "random") & (table["target"] == "position")]
    figure = by_panel(
        evidence,
        "position_probe",
        "R² of a linear probe for absolute position on random rows, by depth and cell",
        f"{LINES} A probe that knows nothing has 0.",
        lambda cells: measured.lines(
            position.assign(r2=position["r2"].clip(lower=-0.1)),
            cells,
            "r2",
            labels=("Depth (layers passed)", "R² of position, random rows"),
            reference=(0.0, "knows nothing"),
        ),
    )
    caption = "After the last layer, as trained"
    return Finding(claims, [*by_depth, by_cell(evidence.cells, others, caption)], [figure])
