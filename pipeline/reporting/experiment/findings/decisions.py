"""What the declared comparisons decide, what stays open, and what would decide it."""

import pandas as pd

from pipeline.params import Ablation
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.finding import Finding, section


@section("results", 10, "Decisions")
def decisions(evidence: Evidence) -> Finding | None:
    """Of every declared comparison, whether its corrected p-value is below `comparisons.ALPHA`; and the ablations of which
    runs were still rising."""
    ablations = {ablation.name: ablation for ablation in evidence.ablations}
    declared = evidence.declared
    claims = [
        claim
        for first, second, measure in declared[["first", "second", "measure"]].itertuples(index=False)
        for claim in _compared(evidence, ablations[first], ablations[second], measure)
    ]
    claims += _least(evidence, declared)
    claims += _rising(evidence)
    return Finding(claims) if claims else None


def _least(evidence: Evidence, declared: pd.DataFrame) -> list[Claim]:
    """What so few seeds can say at best."""
    known = declared[declared["p_least"].notna()]
    if known.empty:
        return []
    first = {key: known.iloc[0][key] for key in ("measure", "first", "second")}
    least = evidence.estimate("comparisons.csv", "p_least", "p", first, n="seeds")
    count = evidence.estimate("comparisons.csv", "declared", "count", {"declared": 1}, statistic="rows")
    return [Claim("least", {"least": least, "count": count}, place="open")]


def _rising(evidence: Evidence) -> list[Claim]:
    """Ablations that might learn the task in more steps."""
    rising = {ablation.name: found for ablation in evidence.ablations if (found := evidence.rising(ablation))}
    if not rising:
        return []
    named = {f"ablation_{place}": found for place, found in enumerate(rising.values())}
    one_budget = len({found.budget for found in rising.values()}) == 1
    words = {"ablations": list(zip(named, rising, strict=True)), "one_budget": one_budget}
    said = [Claim("rising", named, words, place="open")]
    return [*said, Claim("longer", {}, {"ablations": [f"`{name}`" for name in rising]}, place="next")]


def _compared(evidence: Evidence, first: Ablation, second: Ablation, measure: str) -> list[Claim]:
    more = evidence.compared(measure, first, second)
    if more is None:
        return []
    p = evidence.decided(more)
    words = {"first": first.name, "second": second.name, "measure": measure}
    estimates = {"more": more, "p": p, "log_rank": evidence.log_rank(more)}
    if p and p.value < comparisons.ALPHA:
        return [Claim("decided", estimates, words, place="decided")]
    found = [Claim("undecided", estimates, words, place="open")]
    if seeds := evidence.beside(more, "seeds_needed", "count"):
        found.append(Claim("seeds", {"seeds": seeds}, words, place="next"))
    return found
