"""Does a residual-free cell fail because position is lost, or because it is hard to train? A start that keeps scale."""

from pipeline import cells as grid
from pipeline.reporting.claims import Claim
from pipeline.reporting.grid import comparisons
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.finding import ANSWERS, Column, Finding, by_cell, differences, section


@section("mechanism", 60, "Or is it only trainability?", tells=["effective_rank"], scores=ANSWERS)
def trainability(evidence: Evidence) -> Finding | None:
    """Each residual-free cell beside its control, and what rank every one starts with."""
    if all(map(grid.is_whole, evidence.cells)):
        return None
    pairs = comparisons.controls(evidence.cells)
    claims = []
    for control, plain in pairs:
        more = evidence.compared("restricted_steps", control, plain)
        estimates = {
            "plain": evidence.converged(plain),
            "control": evidence.converged(control),
            "rising": evidence.rising(control),
            "more": more,
            "p": evidence.decided(more),
            "log_rank": evidence.log_rank(more),
        }
        claims.append(Claim("control", estimates, {"cell": plain.name, "same": control.name}))
    compared = comparisons.wholes(evidence.cells)
    counterpart = {cell.name: whole for cell, whole in compared}

    def rank(trained: int) -> Column:
        return lambda cell: evidence.mean(
            "effective_rank", "effective_rank", "ratio", cell, trained=trained, depth=cell.model.layers
        )

    columns = {"Rank": rank(0), "Rank, whole": lambda cell: rank(0)(counterpart[cell.name]), "Rank, trained": rank(1)}
    caption = "Effective rank after the last layer, before training: mean over seeds (t 95% interval)"
    tables = [
        *differences(
            evidence, "restricted_steps", pairs, "Control less plain cell: steps to converge, up to the budget"
        ),
        by_cell([cell for cell, _ in compared], columns, caption),
    ]
    return Finding(claims, [table for table in tables if table.rows])
