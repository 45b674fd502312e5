"""Many tasks side by side: what becomes of each kind of ablation on each, and on how many tasks a finding holds."""

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import BITS
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.figures import across as drawn
from pipeline.reporting.experiment.finding import Finding
from pipeline.reporting.page import Figure, Table
from pipeline.reporting.wording import brief, interval, percent

MOST = 3
"""So many tasks are told of one by one, in full; more are compared."""
MATRIX = (
    "task",
    "order_counts",
    "kind",
    "ablation",
    "runs",
    "converged",
    "low",
    "high",
    "test_bits",
    "ceiling",
    "shade",
)
HOLDS = ("claim", "task", "holds")


def many(evidence: Sequence[Evidence]) -> bool:
    """Whether there are so many tasks that they are compared."""
    return len(evidence) > MOST


def kind(evidence: Evidence, ablation: Ablation) -> str:
    """What an ablation is, said without what most ablations of its task share: the same words for the same idea on
    any task."""
    return switches.describe(ablation, switches.common_values(evidence.ablations))


def matrix(evidence: Sequence[Evidence]) -> pd.DataFrame:
    """A row per task and kind of ablation: how many of its `runs` converged with the exact interval of their share,
    or the
    mean test bits per token with its t interval; the order-blind `ceiling` of the task. `shade`: how good that is, from
    0 to 1: the share that converged, or where the bits lie between the worst and the best ablation of a task and its
    twin."""
    rows = []
    for each in evidence:
        task, by_bits = each.problems.task, _by_bits(each)
        best, worst = _range([one for one in evidence if one.problems.task.untwinned == task.untwinned])
        for ablation in each.ablations:
            if one := _outcome(each, ablation):
                converged, bits = (None, one.value) if by_bits else (one.value, None)
                shade = (worst - one.value) / (worst - best or 1.0) if by_bits else one.value / (one.n or 1)
                of_task = (each.dataset, int(task.order_counts), kind(each, ablation), ablation.name)
                rows.append([*of_task, one.n, converged, one.low, one.high, bits, each.ceiling, shade])
    table = pd.DataFrame(rows, columns=list(MATRIX)).astype({"converged": "Int64"})
    return table.drop_duplicates(["task", "kind"], ignore_index=True)


def _outcome(evidence: Evidence, ablation: Ablation) -> Estimate | None:
    """Runs that converged, or bits."""
    return evidence.bits(ablation) if _by_bits(evidence) else evidence.converged(ablation)


def _range(evidence: Sequence[Evidence]) -> tuple[float, float]:
    """The least and the most of the outcomes on these tasks."""
    found = [one.value for each in evidence for ablation in each.ablations if (one := _outcome(each, ablation))]
    return min(found, default=0.0), max(found, default=0.0)


def holds(evidence: Sequence[Evidence]) -> pd.DataFrame:
    """A row per finding and task on which it could be seen, and whether it `holds` there."""
    rows = [
        (name, each.dataset, int(seen))
        for name, see in FINDINGS.items()
        for each in evidence
        if (seen := see(each)) is not None
    ]
    return pd.DataFrame(rows, columns=list(HOLDS))


def finding(evidence: Sequence[Evidence]) -> Finding:
    """The matrix, and a sentence for each finding."""
    any_of = evidence[0]
    table, seen = (any_of.tables[name] for name in ("tasks.csv", "holds.csv"))
    claims = []
    for name in dict.fromkeys(seen["claim"]):
        of = {"claim": name}
        estimates = {
            "held": any_of.estimate("holds.csv", "holds", "count", of, statistic="sum"),
            "tasks": any_of.estimate("holds.csv", "holds", "count", of, statistic="rows"),
        }
        not_there = seen.loc[(seen["claim"] == name) & (seen["holds"] == 0), "task"].tolist()
        where_not = [_named(each) for each in evidence if each.dataset in not_there]
        claims.append(Claim(name, estimates, {"where_not": where_not}, place="lead"))
    kinds = list(dict.fromkeys(table["kind"]))
    figure = Figure(
        "tasks",
        "What became of each kind of ablation on each task: runs that converged, or bits per token",
        "A row is a task, below it its twin, in which order is worth nothing; a column is a kind of ablation. k/n: "
        "runs "
        "that learned the task within their budget; a number with a point: test bits per token. The darker, the "
        "better: the share of runs, or where the bits lie between the worst and the best on a task and its twin. "
        "Right: the most that can be had without order, where it can be enumerated.",
        partial(drawn.matrix, table, kinds),
    )
    return Finding(claims, [_for_people(evidence, kinds)], [figure])


def _for_people(evidence: Sequence[Evidence], kinds: Sequence[str]) -> Table:
    rows = []
    for each in evidence:
        of_kind = {kind(each, ablation): ablation for ablation in reversed(each.ablations)}
        entries = [_entry(_outcome(each, of_kind[one])) if one in of_kind else " " for one in kinds]
        rows.append([f"`{each.dataset}`", *entries, " " if each.ceiling is None else percent(each.ceiling)])
    return Table(["Task", *kinds, "Ceiling"], rows, "k/n: runs that converged (95% interval); or test bits per token")


def _entry(found: Estimate | None) -> str:
    if found is None or found.unit != "count":
        return brief(found)
    return f"{brief(found)} ({interval(found)})"


def _by_bits(evidence: Evidence) -> bool:
    return evidence.problems.task.score == BITS


def _ablation(evidence: Evidence, **switches: object) -> Ablation | None:
    return next(iter(evidence.base(**switches)), None)


def _learned(evidence: Evidence, ablation: Ablation | None) -> float | None:
    """The share of runs that make use of order: that converged; of bits, all or none, as what order is worth to the
    ablation is told from nothing or not."""
    if ablation is None:
        return None
    if _by_bits(evidence):
        worth = evidence.order_value(ablation)
        return None if worth is None or worth.low is None else float(worth.low > 0)
    found = evidence.converged(ablation)
    return None if found is None else found.value / (found.n or 1)


def _named(evidence: Evidence) -> str:
    """The task, and whether it is too hard for the ablations that know the order, too."""
    learned = _learned(evidence, _ablation(evidence, positional="learned", attention="causal"))
    return f"`{evidence.dataset}`{'' if learned in (None, 1.0) else ' (not learned with learned PE either)'}"


def _seen(evidence: Evidence, ablation: Ablation | None, share: float, *, order_counts: bool = True) -> bool | None:
    """Whether this share of the ablation's runs learned it; None on a task of the other sort."""
    learned = _learned(evidence, ablation) if evidence.problems.task.order_counts == order_counts else None
    return None if learned is None else learned == share


def _nope(evidence: Evidence) -> Ablation | None:
    return _ablation(evidence, positional="none", attention="causal")


def _blind(evidence: Evidence) -> Ablation | None:
    return _ablation(evidence, positional="none", attention="full")


def _learns_without(evidence: Evidence) -> bool | None:
    return _seen(evidence, _nope(evidence), 1.0)


def _fails_blind(evidence: Evidence) -> bool | None:
    return _seen(evidence, _blind(evidence), 0.0)


def _twin_is_learned(evidence: Evidence) -> bool | None:
    return _seen(evidence, _blind(evidence), 1.0, order_counts=False)


def _one_layer_fails(evidence: Evidence) -> bool | None:
    return _seen(evidence, _ablation(evidence, positional="none", attention="causal", layers=1), 0.0)


def _costs(evidence: Evidence) -> bool | None:
    """Whether the causal ablation without positional encoding is slower, or worse, than the one with a learned one."""
    nope, learned = _nope(evidence), _ablation(evidence, positional="learned", attention="causal")
    if nope is None or learned is None or not evidence.problems.task.order_counts:
        return None
    more = evidence.compared("test_bits" if _by_bits(evidence) else "restricted_steps", nope, learned)
    return None if more is None or more.low is None else more.low > 0


FINDINGS: dict[str, Callable[[Evidence], bool | None]] = {
    "learns_without": _learns_without,
    "fails_blind": _fails_blind,
    "twin_is_learned": _twin_is_learned,
    "one_layer_fails": _one_layer_fails,
    "costs": _costs,
}
"""The sentence in `across.md` -> whether it holds on a task; None where that cannot be seen."""
