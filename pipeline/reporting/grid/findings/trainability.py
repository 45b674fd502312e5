"""Does a residual-free cell fail because position is lost, or because it is hard to train? The identity start."""

from pipeline import cells as grid
from pipeline.reporting.claims import Claim
from pipeline.reporting.grid import comparisons
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.finding import Column, Finding, by_cell, differences, section


@section("mechanism", 60, "Or is it only trainability?", tells=["effective_rank", "gradient_norm"])
def trainability(evidence: Evidence) -> Finding | None:
    """Each residual-free cell beside its control, and what rank and gradient every one starts with."""
    if all(map(grid.is_whole, evidence.cells)):
        return None
    pairs = comparisons.controls(evidence.cells)
    claims = [
        Claim(
            "control",
            {
                "plain": evidence.converged(plain),
                "plain_exact": evidence.exact_match(plain),
                "control": evidence.converged(control),
                "control_exact": evidence.exact_match(control),
            },
            {"cell": plain.name, "same": control.name},
        )
        for control, plain in pairs
    ]
    compared = comparisons.wholes(evidence.cells)
    counterpart = {cell.name: whole for cell, whole in compared}

    def rank(trained: int) -> Column:
        return lambda cell: evidence.mean(
            "effective_rank", "effective_rank", "ratio", cell, trained=trained, depth=cell.model.layers
        )

    columns = {"Rank": rank(0), "Rank, whole": lambda cell: rank(0)(counterpart[cell.name]), "Rank, trained": rank(1)}
    caption = "Effective rank before training: mean over seeds (bootstrap 95% interval)"
    tables = [
        *differences(
            evidence, "trainability", "test_exact_match", pairs,
            "Control less plain cell: test exact match, percentage points",
        ),
        by_cell([cell for cell, _ in compared], columns, caption),
        *differences(
            evidence, "trainability", "gradient_ratio", compared,
            "Gradient of the first layer before training, over that of the same cell with every residual connection",
        ),
    ]  # fmt: skip
    return Finding(claims, [table for table in tables if table.rows])
