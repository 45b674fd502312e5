"""How the runs got there."""

from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.figures import outcomes
from pipeline.reporting.grid.finding import Finding, by_panel, section


@section("details", 10, "Learning curves")
def learning_curves(evidence: Evidence) -> Finding:
    """A panel per cell."""
    score = {"exact_match": "exact match", "bits": "bits per token"}[scored_by := evidence.problems.task.scored_by]
    figure = by_panel(
        evidence,
        "learning_curves",
        f"Validation {score} over training steps, by cell",
        f"Validation {score}, a line per seed, to its last evaluation (a run that has converged may stop there).",
        lambda cells: outcomes.learning_curves(evidence.history, cells, f"validation_{scored_by}", score),
    )
    return Finding(figures=[figure])
