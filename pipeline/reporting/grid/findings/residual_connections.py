"""Which cells converge without which residual connections?"""

from functools import partial

from pipeline import cells as grid
from pipeline.params import Cell
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.grid import comparisons
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.finding import ANSWERS, Finding, by_cell, by_layer, differences, section


@section("questions", 40, "What do residual connections have to do with it?", scores=ANSWERS)
def residual_connections(evidence: Evidence) -> Finding | None:
    """The cells that lack any, and each beside the same cell with all of them. Controls are told of apart."""
    lacking = [cell for cell in evidence.cells if not grid.is_whole(cell)]
    if not lacking:
        return None
    pairs = comparisons.wholes(evidence.cells)
    plain = [(cell, whole) for cell, whole in pairs if grid.is_plain(cell)]
    single = comparisons.one_layer_each(evidence.cells)
    estimates, layers = by_layer(evidence.cells, partial(_about, evidence), optional=("p", "log_rank", "rising"))
    claims = [Claim("by_layer", estimates, {"layers": layers}, place="lead")] if layers else []
    claims += [_one(evidence, *pair) for pair in plain if pair not in single]
    usual = grid.shared(evidence.cells)
    columns = {
        "What is missing": lambda cell: grid.sublayers_in_words(cell.model.residual_free),
        "Otherwise": lambda cell: grid.described(cell, usual | {"residual_free": cell.model.residual_free}),
        "Converged": evidence.converged,
        "Still rising": evidence.rising,
        "Steps, mean up to the budget": evidence.steps,
        "Test exact match": evidence.exact_match,
    }
    than = "than the same cell with every residual connection"
    compared = [
        *differences(evidence, "restricted_steps", pairs, f"More steps to converge {than}, up to the budget"),
        *differences(evidence, "test_exact_match", pairs, f"More test exact match {than}, percentage points"),
    ]
    caption = "Steps: mean (t 95% interval); test: median (min to max) over seeds"
    return Finding(claims, [by_cell(lacking, columns, caption), *compared])


def _about(evidence: Evidence, cell: Cell, whole: Cell) -> dict[str, Estimate | None]:
    more = evidence.compared("restricted_steps", cell, whole)
    return {
        "more": more,
        "p": evidence.decided(more),
        "log_rank": evidence.log_rank(more),
        "converged": evidence.converged(cell),
        "rising": evidence.rising(cell),
    }


def _one(evidence: Evidence, cell: Cell, whole: Cell) -> Claim:
    return Claim("lacking", _about(evidence, cell, whole), {"cell": cell.name, "whole": whole.name})
