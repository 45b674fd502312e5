"""Results by ablation for a task scored by exact match, and the check against the order-blind ceiling."""

from functools import partial

from pipeline import switches
from pipeline.params import Ablation, Training
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment.figures import outcomes
from pipeline.reporting.experiment.section import SectionContent, diverged_column, section, table_by_ablation
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure
from pipeline.reporting.wording import brief, interval, percent


@section("results", 0, "Results by ablation", scores=[EXACT_MATCH])
def result_section(results: TaskResults) -> SectionContent:
    """Build the section of results by ablation, with an alarm for runs above the order-blind ceiling."""
    usual = switches.common_values(results.ablations)
    ceiling, p = (
        results.ablation_column("order_blind_ceiling", "share"),
        results.ablation_column("ceiling_p_value", "p"),
    )
    alarms = [
        Claim(
            "above_ceiling",
            {"above": above, "ceiling": ceiling(ablation), "p": p(ablation)},
            {"ablation": ablation.name},
            role="alarm",
        )
        for ablation in results.ablations
        if (above := results.ablation_column("runs_above_ceiling", "count")(ablation)) and above.value
    ]

    def share_interval(ablation: Ablation) -> str:
        converged = results.converged(ablation)
        return interval(converged) if converged else ""

    columns = {
        "Converged": results.converged,
        "95% interval": share_interval,
        "Steps": results.steps,
        "Budget": results.ablation_column("budget", "steps"),
        "Still rising": lambda ablation: brief(count) if (count := results.still_rising(ablation)) else " ",
        "Test exact match": results.exact_match,
        "Ceiling": lambda ablation: brief(value) if (value := ceiling(ablation)) else " ",
        **diverged_column(results),
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
            partial(outcomes.steps, results.runs, results.ablations),
        ),
        Figure(
            "exact_match",
            "Test exact match of every run by ablation",
            "A mark is a run (seed) at its last step; the bar is the median over seeds.",
            partial(outcomes.exact_match, results.runs, results.ablations, results.ceiling),
        ),
    ]
    counts = results.counts()
    same_seeds = len({len(ablation.training.seeds) for ablation in results.ablations}) == 1
    fewest = results.estimate("ablations.csv", "runs", "count", {"task": results.dataset}, statistic="min")
    counts["seeds"] = fewest if same_seeds else None
    opening = Claim("opening", counts, {"task": results.task.words}, role="opening")
    words = {
        "task": results.task.words,
        "section": results.task,
        "converged_at": sorted({ablation.training.converged_at for ablation in results.ablations}),
        "converged_for": sorted({ablation.training.converged_for for ablation in results.ablations}),
        "stops": any(ablation.training.stop_when_converged for ablation in results.ablations),
        "schedules": sorted({_schedule(ablation.training) for ablation in results.ablations}),
        "diverged": bool(diverged_column(results)),
    }
    return SectionContent([opening, *alarms], [table_by_ablation(results.ablations, columns, caption)], figures, words)


def _schedule(training: Training) -> str:
    """Return the learning rate's schedule in words, and what a larger budget would change."""
    if training.schedule == "constant":
        return "stays as it is"
    falls = f"falls by a cosine to {percent(training.final_learning_rate)} of its highest"
    if training.decay_steps is None:
        return f"{falls} over the whole budget, so that with a larger one a run would be another from its start"
    return (
        f"{falls} over the first {training.decay_steps:,} steps, so that a larger budget would only make a run longer"
    )
