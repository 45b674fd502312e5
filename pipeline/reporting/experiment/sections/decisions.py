"""What the declared comparisons decide, what stays open, and what would decide it."""

import pandas as pd

from pipeline.params import Ablation
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.section import SectionContent, section
from pipeline.reporting.experiment.task_results import TaskResults


@section("results", 10, "Decisions")
def decisions(results: TaskResults) -> SectionContent | None:
    """List the declared comparisons as decided or undecided, and the ablations whose runs were still improving.

    A comparison is decided if its corrected p-value is below `comparisons.ALPHA`.
    """
    ablations = {ablation.name: ablation for ablation in results.ablations}
    declared = results.declared
    claims = [
        claim
        for first, second, measure in declared[["first", "second", "measure"]].itertuples(index=False)
        for claim in _compared(results, ablations[first], ablations[second], measure)
    ]
    claims += _least(results, declared)
    claims += _rising(results)
    return SectionContent(claims) if claims else None


def _least(results: TaskResults, declared: pd.DataFrame) -> list[Claim]:
    """What so few seeds can say at best."""
    known = declared[declared["p_least"].notna()]
    if known.empty:
        return []
    first = {key: known.iloc[0][key] for key in ("measure", "first", "second")}
    least = results.estimate("comparisons.csv", "p_least", "p", first, n="seeds")
    count = results.estimate("comparisons.csv", "declared", "count", {"declared": 1}, statistic="rows")
    return [Claim("least", {"least": least, "count": count}, role="open")]


def _rising(results: TaskResults) -> list[Claim]:
    """Ablations that might learn the task in more steps."""
    rising = {ablation.name: found for ablation in results.ablations if (found := results.still_rising(ablation))}
    if not rising:
        return []
    named = {f"ablation_{place}": found for place, found in enumerate(rising.values())}
    one_budget = len({found.budget for found in rising.values()}) == 1
    words = {"ablations": list(zip(named, rising, strict=True)), "one_budget": one_budget}
    said = [Claim("rising", named, words, role="open")]
    return [*said, Claim("longer", {}, {"ablations": [f"`{name}`" for name in rising]}, role="next")]


def _compared(results: TaskResults, first: Ablation, second: Ablation, measure: str) -> list[Claim]:
    more = results.compared(measure, first, second)
    if more is None:
        return []
    p = results.corrected_p(more)
    words = {"first": first.name, "second": second.name, "measure": measure}
    estimates = {"more": more, "p": p, "log_rank": results.corrected_log_rank_p(more)}
    if p and p.value < comparisons.ALPHA:
        return [Claim("decided", estimates, words, role="decided")]
    found = [Claim("undecided", estimates, words, role="open")]
    if seeds := results.same_row(more, "seeds_needed", "count"):
        found.append(Claim("seeds", {"seeds": seeds}, words, role="next"))
    return found
