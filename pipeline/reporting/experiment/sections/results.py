"""Results by ablation for a task scored by exact match, and the check against the order-blind ceiling."""

from functools import partial

from pipeline import switches
from pipeline.params import Ablation, Training
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment.figures import outcomes
from pipeline.reporting.experiment.section import (
    SectionContent,
    diverged_run_column,
    register_section,
    table_by_ablation,
)
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure
from pipeline.reporting.wording import format_cell, format_interval, percent


@register_section("results", 0, "Results by ablation", scores=[EXACT_MATCH])
def build_result_section(results: TaskResults) -> SectionContent:
    """Build the section of results by ablation, with an alarm for runs above the order-blind ceiling."""
    usual = switches.find_unmentioned_values(results.ablations)
    ceiling, p = (
        results.column_reader("order_blind_ceiling", "share"),
        results.column_reader("ceiling_p_value", "p"),
    )
    alarms = [
        Claim(
            "above_ceiling",
            {"above": above, "ceiling": ceiling(ablation), "p": p(ablation)},
            {"ablation": ablation.name},
            role="alarm",
        )
        for ablation in results.ablations
        if (above := results.column_reader("runs_above_ceiling", "count")(ablation)) and above.value
    ]

    def converged_interval(ablation: Ablation) -> str:
        converged = results.converged_runs(ablation)
        return format_interval(converged) if converged else ""

    columns = {
        "Converged": results.converged_runs,
        "95% interval": converged_interval,
        "Steps": results.mean_steps,
        "Budget": results.column_reader("budget", "steps"),
        "Still rising": lambda ablation: format_cell(count) if (count := results.still_rising_runs(ablation)) else " ",
        "Test exact match": results.median_exact_match,
        "Ceiling": lambda ablation: format_cell(value) if (value := ceiling(ablation)) else " ",
        **diverged_run_column(results),
        "What it is": lambda ablation: switches.describe_ablation(ablation, usual),
    }
    shared = (
        switch.describe_value(usual[switch.field]) for switch in switches.SWITCHES if not switch.is_always_mentioned
    )
    size = ", ".join(filter(None, shared))
    caption = (
        "Steps: mean up to the budget (t 95% interval). Test: median (min to max) over seeds. Where not said "
        f"otherwise: {size}, every residual connection"
    )
    figures = [
        Figure(
            "steps",
            "Steps to converge of every run by ablation, up to the budget, and how many runs of each ablation "
            "converged",
            "A mark is a run (seed): where it converged, or at the end of its budget (a triangle where it was still "
            "getting better, a cross where not). Bar: the mean up to the budget with its t 95% interval. Right: how "
            "many runs converged, with the exact 95% interval of their share.",
            partial(outcomes.draw_steps_to_converge, results.runs, results.ablations),
        ),
        Figure(
            "exact_match",
            "Test exact match of every run by ablation",
            "A mark is a run (seed) at its last step; the bar is the median over seeds.",
            partial(outcomes.draw_exact_match, results.runs, results.ablations, results.ceiling),
        ),
    ]
    counts = results.experiment_size()
    same_seeds = len({len(ablation.training.seeds) for ablation in results.ablations}) == 1
    fewest = results.read_estimate("ablations.csv", "runs", "count", {"task": results.dataset}, statistic="min")
    counts["seeds"] = fewest if same_seeds else None
    opening = Claim("opening", counts, {"task": results.task.description}, role="opening")
    words = {
        "task": results.task.description,
        "section": results.task,
        "converged_at": sorted({ablation.training.converged_at for ablation in results.ablations}),
        "converged_for": sorted({ablation.training.converged_for for ablation in results.ablations}),
        "stops": any(ablation.training.stop_when_converged for ablation in results.ablations),
        "schedules": sorted({_describe_schedule(ablation.training) for ablation in results.ablations}),
        "diverged": bool(diverged_run_column(results)),
    }
    return SectionContent([opening, *alarms], [table_by_ablation(results.ablations, columns, caption)], figures, words)


def _describe_schedule(training: Training) -> str:
    """Return the schedule of the learning rate in words, with the effect of a larger budget."""
    if training.schedule == "constant":
        return "stays as it is"
    falls = f"falls by a cosine to {percent(training.final_learning_rate)} of its highest"
    if training.decay_steps is None:
        return f"{falls} over the whole budget, so that with a larger one a run would be another from its start"
    return (
        f"{falls} over the first {training.decay_steps:,} steps, so that a larger budget would only make a run longer"
    )
