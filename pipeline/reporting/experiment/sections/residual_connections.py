"""Results without residual connections."""

from functools import partial

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.section import (
    SectionContent,
    collect_single_layer_estimates,
    difference_tables,
    register_section,
    table_by_ablation,
)
from pipeline.reporting.experiment.task_results import TaskResults


@register_section("questions", 40, "What do residual connections have to do with it?", scores=[EXACT_MATCH])
def build_residual_section(results: TaskResults) -> SectionContent | None:
    """Build the section that compares each ablation that lacks residual connections with its intact counterpart."""
    residual_free = [ablation for ablation in results.ablations if not switches.is_intact(ablation)]
    if not residual_free:
        return None
    pairs = comparisons.intact_pairs(results.ablations)
    unsubstituted = [(ablation, intact) for ablation, intact in pairs if switches.lacks_residuals(ablation)]
    single = comparisons.single_layer_pairs(results.ablations)
    estimates, layers = collect_single_layer_estimates(
        results.ablations, partial(_cost_estimates, results), optional_names=("p", "log_rank", "rising")
    )
    claims = [Claim("by_layer", estimates, {"layers": layers}, role="lead")] if layers else []
    claims += [_cost_claim(results, *pair) for pair in unsubstituted if pair not in single]
    usual = switches.find_unmentioned_values(results.ablations)
    columns = {
        "What is missing": lambda ablation: switches.sublayers_in_words(ablation.model.residual_free),
        "Otherwise": lambda ablation: switches.describe_ablation(
            ablation, usual | {"residual_free": ablation.model.residual_free}
        ),
        "Converged": results.converged_runs,
        "Still rising": results.still_rising_runs,
        "Steps, mean up to the budget": results.mean_steps,
        "Test exact match": results.median_exact_match,
    }
    than = "than the same ablation with every residual connection"
    compared = [
        *difference_tables(results, "restricted_steps", pairs, f"More steps to converge {than}, up to the budget"),
        *difference_tables(results, "test_exact_match", pairs, f"More test exact match {than}, percentage points"),
    ]
    caption = "Steps: mean (t 95% interval); test: median (min to max) over seeds"
    return SectionContent(claims, [table_by_ablation(residual_free, columns, caption), *compared])


def _cost_estimates(results: TaskResults, ablation: Ablation, intact: Ablation) -> dict[str, Estimate | None]:
    difference = results.mean_difference("restricted_steps", ablation, intact)
    return {
        "more": difference,
        "p": results.corrected_p_value(difference),
        "log_rank": results.corrected_log_rank_p_value(difference),
        "converged": results.converged_runs(ablation),
        "rising": results.still_rising_runs(ablation),
    }


def _cost_claim(results: TaskResults, ablation: Ablation, intact: Ablation) -> Claim:
    return Claim(
        "lacking", _cost_estimates(results, ablation, intact), {"ablation": ablation.name, "whole": intact.name}
    )
