"""What the declared comparisons decide, what stays open, and what would decide it."""

import pandas as pd

from pipeline.params import Cell
from pipeline.reporting.claims import Claim
from pipeline.reporting.grid import comparisons
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.finding import Finding, section


@section("results", 10, "Decisions")
def decisions(evidence: Evidence) -> Finding | None:
    """Of every declared comparison, whether its corrected p-value is below `comparisons.ALPHA`; and the cells of which
    runs were still rising."""
    cells = {cell.name: cell for cell in evidence.cells}
    declared = evidence.declared
    claims = [
        claim
        for first, second, measure in declared[["first", "second", "measure"]].itertuples(index=False)
        for claim in _compared(evidence, cells[first], cells[second], measure)
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
    """Cells that might learn the task in more steps."""
    rising = {cell.name: found for cell in evidence.cells if (found := evidence.rising(cell))}
    if not rising:
        return []
    named = {f"cell_{place}": found for place, found in enumerate(rising.values())}
    one_budget = len({found.budget for found in rising.values()}) == 1
    words = {"cells": list(zip(named, rising, strict=True)), "one_budget": one_budget}
    said = [Claim("rising", named, words, place="open")]
    return [*said, Claim("longer", {}, {"cells": [f"`{name}`" for name in rising]}, place="next")]


def _compared(evidence: Evidence, first: Cell, second: Cell, measure: str) -> list[Claim]:
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
