"""Learning curves of all runs."""

from pipeline.reporting.experiment.figures import outcomes
from pipeline.reporting.experiment.section import SectionContent, panel_figure, register_section
from pipeline.reporting.experiment.task_results import TaskResults


@register_section("details", 10, "Learning curves")
def build_learning_curve_section(results: TaskResults) -> SectionContent:
    """Build the section that shows the validation score of each run over training, in a panel per ablation."""
    score = results.task.score
    figure = panel_figure(
        results,
        "learning_curves",
        f"Validation {score.label} over training steps, by ablation",
        f"Validation {score.label}, a line per seed, to its last evaluation (a run that has converged may stop there).",
        lambda ablations: outcomes.draw_learning_curves(
            results.history, ablations, score.column("validation"), score.label
        ),
    )
    return SectionContent(figures=[figure])
