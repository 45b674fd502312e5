"""How the runs got there."""

from functools import partial

from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.figures import outcomes
from pipeline.reporting.grid.finding import Finding, section
from pipeline.reporting.page import Figure


@section("details", 10, "Learning curves")
def learning_curves(evidence: Evidence) -> Finding:
    """A panel per cell."""
    score = {"exact_match": "exact match", "bits": "bits per token"}[scored_by := evidence.problems.task.scored_by]
    figure = Figure(
        "learning_curves",
        f"Validation {score} over training steps, by cell",
        f"Validation {score}, a line per seed, to its last evaluation (a run that has converged may stop there).",
        partial(outcomes.learning_curves, evidence.history, evidence.cells, f"validation_{scored_by}", score),
    )
    return Finding(figures=[figure])
