"""Every cell with its counts and scores, and the check of the instrument."""

from functools import partial

from pipeline import cells as grid
from pipeline.params import Cell
from pipeline.reporting.claims import Claim
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.figures import outcomes
from pipeline.reporting.grid.finding import Finding, by_cell, section
from pipeline.reporting.page import Figure
from pipeline.reporting.wording import brief, interval


@section("results", 0, "Results by cell")
def results(evidence: Evidence) -> Finding:
    """The table of all cells, the main figure, and an alarm for every cell that knows more than it can."""
    usual = grid.shared(evidence.cells)
    ceiling, p = evidence.of("order_blind_ceiling", "share"), evidence.of("ceiling_p_value", "p")
    alarms = [
        Claim(
            "above_ceiling", {"above": above, "ceiling": ceiling(cell), "p": p(cell)}, {"cell": cell.name}, alarm=True
        )
        for cell in evidence.cells
        if (above := evidence.of("runs_above_ceiling", "count")(cell)) and above.value
    ]

    def between(cell: Cell) -> str:
        converged = evidence.converged(cell)
        return interval(converged) if converged else ""

    columns = {
        "Converged": evidence.converged,
        "95% interval": between,
        "Steps": evidence.of("steps_to_converge_median", "steps"),
        "Test exact match": evidence.exact_match,
        "Ceiling": lambda cell: brief(found) if (found := ceiling(cell)) else " ",
        "What it is": lambda cell: grid.described(cell, usual),
    }
    size = ", ".join(filter(None, (one.words(usual[one.field]) for one in grid.SWITCHES if not one.spoken)))
    caption = f"Test: median (min to max) over seeds. Where not said otherwise: {size}, every residual connection"
    figure = Figure(
        "exact_match",
        "Test exact match of every run by cell, and how many runs of each cell converged",
        "Each mark is one run (seed) at its last step, with the exact 95% interval of its test score; the bar is the "
        "median over seeds. Right: the share of runs that converged, with its exact 95% interval and k/n.",
        partial(outcomes.exact_match, evidence.runs, evidence.cells, evidence.ceiling),
    )
    words = {
        "task": evidence.problems.in_words,
        "section": evidence.problems.task,
        "converged_at": sorted({cell.training.converged_at for cell in evidence.cells}),
    }
    return Finding(alarms, [by_cell(evidence.cells, columns, caption)], [figure], words)
