"""How the runs got there."""

from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.figures import outcomes
from pipeline.reporting.experiment.finding import Finding, by_panel, section


@section("details", 10, "Learning curves")
def learning_curves(evidence: Evidence) -> Finding:
    """A panel per ablation."""
    score = {"exact_match": "exact match", "bits": "bits per token"}[scored_by := evidence.problems.task.scored_by]
    figure = by_panel(
        evidence,
        "learning_curves",
        f"Validation {score} over training steps, by ablation",
        f"Validation {score}, a line per seed, to its last evaluation (a run that has converged may stop there).",
        lambda ablations: outcomes.learning_curves(evidence.history, ablations, f"validation_{scored_by}", score),
    )
    return Finding(figures=[figure])
