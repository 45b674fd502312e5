"""Decisions: results of the declared comparisons, questions that stay open, and how to decide them."""

import pandas as pd

from pipeline.params import Ablation
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.section import SectionContent, register_section
from pipeline.reporting.experiment.task_results import TaskResults


@register_section("results", 10, "Decisions")
def build_decision_section(results: TaskResults) -> SectionContent | None:
    """Build the verdicts: declared comparisons, decided or not, and ablations whose runs were still improving.

    A comparison is decided if its corrected p-value is below `comparisons.SIGNIFICANCE_LEVEL`.
    """
    ablations = {ablation.name: ablation for ablation in results.ablations}
    declared = results.declared_comparisons
    claims = [
        claim
        for first, second, measure in declared[["first", "second", "measure"]].itertuples(index=False)
        for claim in _verdict_claims(results, ablations[first], ablations[second], measure)
    ]
    claims += _smallest_p_value_claims(results, declared)
    claims += _still_rising_claims(results)
    return SectionContent(claims) if claims else None


def _smallest_p_value_claims(results: TaskResults, declared_comparisons: pd.DataFrame) -> list[Claim]:
    """Return a claim about the smallest p-value that a declared comparison with so many seeds can have."""
    decidable = declared_comparisons[declared_comparisons["p_least"].notna()]
    if decidable.empty:
        return []
    first_row = {key: decidable.iloc[0][key] for key in ("measure", "first", "second")}
    least = results.read_estimate("comparisons.csv", "p_least", "p", first_row, n_column="seeds")
    count = results.read_estimate("comparisons.csv", "declared", "count", {"declared": 1}, statistic="rows")
    return [Claim("least", {"least": least, "count": count}, role="open")]


def _still_rising_claims(results: TaskResults) -> list[Claim]:
    """Return claims about the ablations whose runs were still improving when their budget ended."""
    counts = {ablation.name: count for ablation in results.ablations if (count := results.still_rising_runs(ablation))}
    if not counts:
        return []
    estimates = {f"ablation_{index}": count for index, count in enumerate(counts.values())}
    same_budget = len({count.budget for count in counts.values()}) == 1
    words = {"ablations": list(zip(estimates, counts, strict=True)), "one_budget": same_budget}
    return [
        Claim("rising", estimates, words, role="open"),
        Claim("longer", {}, {"ablations": [f"`{name}`" for name in counts]}, role="next"),
    ]


def _verdict_claims(results: TaskResults, first: Ablation, second: Ablation, measure: str) -> list[Claim]:
    """Return claims about a declared comparison: decided or not, and if not, how many seeds would decide it."""
    difference = results.mean_difference(measure, first, second)
    if difference is None:
        return []
    p = results.corrected_p_value(difference)
    words = {"first": first.name, "second": second.name, "measure": measure}
    estimates = {"more": difference, "p": p, "log_rank": results.corrected_log_rank_p_value(difference)}
    if p and p.value < comparisons.SIGNIFICANCE_LEVEL:
        return [Claim("decided", estimates, words, role="decided")]
    claims = [Claim("undecided", estimates, words, role="open")]
    if seeds := results.read_same_row(difference, "seeds_needed", "count"):
        claims.append(Claim("seeds", {"seeds": seeds}, words, role="next"))
    return claims
