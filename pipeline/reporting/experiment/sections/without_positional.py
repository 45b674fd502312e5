"""Results without positional encoding: outcome, steps and cost."""

from functools import partial

from pipeline import switches
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.figures import outcomes
from pipeline.reporting.experiment.section import (
    CellFunction,
    SectionContent,
    difference_tables,
    panel_figure,
    register_section,
    table_by_ablation,
)
from pipeline.reporting.experiment.task_results import TaskResults


@register_section(
    "questions",
    10,
    "Does a causal decoder without positional encoding learn the task?",
    measurements=["cost"],
    scores=[EXACT_MATCH],
)
def build_encoding_section(results: TaskResults) -> SectionContent | None:
    """Build the section that compares causal decoders without and with positional encoding."""
    causal = results.usual_ablations(attention="causal")
    without = next(iter(switches.select_ablations(causal, positional="none")), None)
    learned = next(iter(switches.select_ablations(causal, positional="learned")), None)
    if without is None:
        return None
    difference = results.mean_difference("restricted_steps", without, learned) if learned else None
    estimates = {
        "bare_converged": results.converged_runs(without),
        "bare_steps": results.mean_steps(without),
        "learned_converged": results.converged_runs(learned) if learned else None,
        "learned_steps": results.mean_steps(learned) if learned else None,
        "later": difference,
        "p": results.corrected_p_value(difference),
        "log_rank": results.corrected_log_rank_p_value(difference),
    }
    parameters = results.column_reader("parameters", "count")
    claims = [Claim("answer", estimates, role="lead")]
    if learned:
        claims.append(Claim("price", {"bare": parameters(without), "learned": parameters(learned)}))
    columns: dict[str, CellFunction] = {
        "Parameters": parameters,
        "FLOPs per step": results.column_reader("flops_per_step", "flops"),
        "Converged": results.converged_runs,
        "Steps, mean up to the budget": results.mean_steps,
        "FLOPs spent": results.column_reader("flops_spent", "flops"),
    }
    pairs = [*comparisons.encoding_pairs(results), *comparisons.reference_pairs(results)]
    pairs = list({(first.name, second.name): (first, second) for first, second in pairs}.values())
    tables = [
        *difference_tables(results, "restricted_steps", pairs, "Difference in steps to converge, up to the budget"),
        *difference_tables(results, "test_exact_match", pairs, "Difference in test exact match, percentage points"),
        table_by_ablation(results.ablations, columns, "Means over seeds (steps: t 95% interval)"),
    ]
    figure = panel_figure(
        results,
        "not_yet_converged",
        "Share of runs not yet converged by step, a panel per ablation",
        "Kaplan-Meier estimate over the seeds of each ablation.",
        partial(outcomes.draw_unconverged_share, results.runs),
    )
    return SectionContent(claims, tables, [figure])
