"""How the runs got there."""

from functools import partial

from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.figures import outcomes
from pipeline.reporting.grid.finding import Finding, section
from pipeline.reporting.page import Figure


@section("details", 10, "Learning curves")
def learning_curves(evidence: Evidence) -> Finding:
    """A panel per cell."""
    figure = Figure(
        "learning_curves",
        "Validation exact match over training steps, by cell",
        "Validation exact match, a line per seed, to its last evaluation (a run that has converged may stop there).",
        partial(outcomes.learning_curves, evidence.history, evidence.cells),
    )
    return Finding(figures=[figure])
