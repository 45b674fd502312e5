"""Does the column of states above a position stay about that position's token, with and without residuals?"""

from functools import partial

from pipeline import cells as grid
from pipeline.params import Cell
from pipeline.reporting.claims import Claim, Estimate, Unit
from pipeline.reporting.grid.comparisons import depth_to_read, wholes
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.figures import measured
from pipeline.reporting.grid.finding import Column, Finding, by_cell, differences, section
from pipeline.reporting.page import Figure


@section("mechanism", 50, "Does the column above a position stay about its token?", tells=["slices"])
def slices(evidence: Evidence) -> Finding | None:
    """Dominance and margin of the own token, by cell, at the depth where a missing residual connection would show: as
    trained, before, and what training added."""
    table = evidence.measured("slices")
    if table.empty:
        return None

    def own(value: str, unit: Unit, trained: int = 1) -> Column:
        return lambda cell: evidence.mean("own_token", value, unit, cell, trained=trained, depth=depth_to_read(cell))

    def added(cell: Cell) -> Estimate | None:
        return evidence.mean("own_token_added", "dominance", "points", cell, depth=depth_to_read(cell))

    columns = {
        "Depth": lambda cell: str(depth_to_read(cell)),
        "Dominance": own("dominance", "share"),
        "before training": own("dominance", "share", trained=0),
        "added by training, points": added,
        "Margin, points": own("margin", "points"),
    }
    lacking = [cell for cell in evidence.cells if not grid.is_whole(cell)]
    positions = table["position"].nunique()
    figure = Figure(
        "slices",
        "Accuracy of reading the token at each position from the column above each position, a panel per cell",
        "Trained, after the last layer, mean over seeds. Row: the column that is read; column: the token that is "
        "looked for. A dark diagonal: columns are about their own tokens.",
        partial(measured.slices, table, evidence.cells),
    )
    return Finding(
        _answer(evidence, lacking),
        [
            by_cell(evidence.cells, columns, "Mean over seeds (t 95% interval)"),
            *differences(
                evidence, "margin", wholes(evidence.cells),
                "Difference in the margin to the same cell with every residual connection at the same depth, points",
            ),
        ],
        [figure],
        {"positions": positions, "causal": sum(1 / k for k in range(1, positions + 1)) / positions},
    )  # fmt: skip


def _answer(evidence: Evidence, lacking: list[Cell]) -> list[Claim]:
    """The range over cells with and without every residual connection, before and after training: cells, not runs."""
    estimates: dict[str, Estimate | None] = {}
    for kind, cells in (("whole", [cell for cell in evidence.cells if grid.is_whole(cell)]), ("lacking", lacking)):
        for when, trained in (("", 1), ("_before", 0)):
            found = [
                evidence.mean("own_token", "dominance", "share", cell, trained=trained, depth=depth_to_read(cell))
                for cell in cells
            ]
            known = sorted((one for one in found if one), key=lambda one: one.value)
            if not known:
                return []
            estimates |= {f"{kind}_least{when}": known[0], f"{kind}_most{when}": known[-1]}
    return [Claim("answer", estimates)]
