"""How the runs got there."""

from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.figures import outcomes
from pipeline.reporting.experiment.finding import Finding, by_panel, section


@section("details", 10, "Learning curves")
def learning_curves(evidence: Evidence) -> Finding:
    """A panel per ablation."""
    score = evidence.problems.task.score
    figure = by_panel(
        evidence,
        "learning_curves",
        f"Validation {score.words} over training steps, by ablation",
        f"Validation {score.words}, a line per seed, to its last evaluation (a run that has converged may stop there).",
        lambda ablations: outcomes.learning_curves(
            evidence.history, ablations, score.column("validation"), score.words
        ),
    )
    return Finding(figures=[figure])
