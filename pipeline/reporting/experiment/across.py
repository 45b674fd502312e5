"""Many tasks side by side: what becomes of each kind of ablation on each, and on how many tasks a finding holds."""

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import BITS
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment.figures import across as drawn
from pipeline.reporting.experiment.section import SectionContent
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure, Table
from pipeline.reporting.wording import brief, interval, percent

MAX_TASKS_IN_FULL = 3
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


def has_many_tasks(results: Sequence[TaskResults]) -> bool:
    """Whether there are so many tasks that they are compared."""
    return len(results) > MAX_TASKS_IN_FULL


def ablation_kind(results: TaskResults, ablation: Ablation) -> str:
    """What an ablation is, said without what most ablations of its task share: the same words for the same idea on
    any task."""
    return switches.describe(ablation, switches.common_values(results.ablations))


def task_table(results: Sequence[TaskResults]) -> pd.DataFrame:
    """A row per task and kind of ablation: how many of its `runs` converged with the exact interval of their share,
    or the
    mean test bits per token with its t interval; the order-blind `ceiling` of the task. `shade`: how good that is, from
    0 to 1: the share that converged, or where the bits lie between the worst and the best ablation of a task and its
    twin."""
    rows = []
    for each in results:
        task, by_bits = each.problems.task, _by_bits(each)
        best, worst = _range([one for one in results if one.problems.task.untwinned == task.untwinned])
        for ablation in each.ablations:
            if one := _outcome(each, ablation):
                converged, bits = (None, one.value) if by_bits else (one.value, None)
                shade = (worst - one.value) / (worst - best or 1.0) if by_bits else one.value / (one.n or 1)
                of_task = (each.dataset, int(task.order_counts), ablation_kind(each, ablation), ablation.name)
                rows.append([*of_task, one.n, converged, one.low, one.high, bits, each.ceiling, shade])
    table = pd.DataFrame(rows, columns=list(MATRIX)).astype({"converged": "Int64"})
    return table.drop_duplicates(["task", "kind"], ignore_index=True)


def _outcome(results: TaskResults, ablation: Ablation) -> Estimate | None:
    """Runs that converged, or bits."""
    return results.bits(ablation) if _by_bits(results) else results.converged(ablation)


def _range(results: Sequence[TaskResults]) -> tuple[float, float]:
    """The least and the most of the outcomes on these tasks."""
    found = [one.value for each in results for ablation in each.ablations if (one := _outcome(each, ablation))]
    return min(found, default=0.0), max(found, default=0.0)


def holds_table(results: Sequence[TaskResults]) -> pd.DataFrame:
    """A row per finding and task on which it could be seen, and whether it `holds` there."""
    rows = [
        (name, each.dataset, int(seen))
        for name, see in CHECKS.items()
        for each in results
        if (seen := see(each)) is not None
    ]
    return pd.DataFrame(rows, columns=list(HOLDS))


def comparison_section(results: Sequence[TaskResults]) -> SectionContent:
    """The matrix, and a sentence for each finding."""
    any_of = results[0]
    table, seen = (any_of.tables[name] for name in ("tasks.csv", "holds.csv"))
    claims = []
    for name in dict.fromkeys(seen["claim"]):
        of = {"claim": name}
        estimates = {
            "held": any_of.estimate("holds.csv", "holds", "count", of, statistic="sum"),
            "tasks": any_of.estimate("holds.csv", "holds", "count", of, statistic="rows"),
        }
        not_there = seen.loc[(seen["claim"] == name) & (seen["holds"] == 0), "task"].tolist()
        where_not = [_named(each) for each in results if each.dataset in not_there]
        claims.append(Claim(name, estimates, {"where_not": where_not}, role="lead"))
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
    return SectionContent(claims, [_for_people(results, kinds)], [figure])


def _for_people(results: Sequence[TaskResults], kinds: Sequence[str]) -> Table:
    rows = []
    for each in results:
        of_kind = {ablation_kind(each, ablation): ablation for ablation in reversed(each.ablations)}
        entries = [_entry(_outcome(each, of_kind[one])) if one in of_kind else " " for one in kinds]
        rows.append([f"`{each.dataset}`", *entries, " " if each.ceiling is None else percent(each.ceiling)])
    return Table(["Task", *kinds, "Ceiling"], rows, "k/n: runs that converged (95% interval); or test bits per token")


def _entry(found: Estimate | None) -> str:
    if found is None or found.unit != "count":
        return brief(found)
    return f"{brief(found)} ({interval(found)})"


def _by_bits(results: TaskResults) -> bool:
    return results.problems.task.score == BITS


def _ablation(results: TaskResults, **switches: object) -> Ablation | None:
    return next(iter(results.usual_ablations(**switches)), None)


def _learned(results: TaskResults, ablation: Ablation | None) -> float | None:
    """The share of runs that make use of order: that converged; of bits, all or none, as what order is worth to the
    ablation is told from nothing or not."""
    if ablation is None:
        return None
    if _by_bits(results):
        worth = results.order_value(ablation)
        return None if worth is None or worth.low is None else float(worth.low > 0)
    found = results.converged(ablation)
    return None if found is None else found.value / (found.n or 1)


def _named(results: TaskResults) -> str:
    """The task, and whether it is too hard for the ablations that know the order, too."""
    learned = _learned(results, _ablation(results, positional="learned", attention="causal"))
    return f"`{results.dataset}`{'' if learned in (None, 1.0) else ' (not learned with learned PE either)'}"


def _seen(results: TaskResults, ablation: Ablation | None, share: float, *, order_counts: bool = True) -> bool | None:
    """Whether this share of the ablation's runs learned it; None on a task of the other sort."""
    learned = _learned(results, ablation) if results.problems.task.order_counts == order_counts else None
    return None if learned is None else learned == share


def _nope(results: TaskResults) -> Ablation | None:
    return _ablation(results, positional="none", attention="causal")


def _blind(results: TaskResults) -> Ablation | None:
    return _ablation(results, positional="none", attention="full")


def _learns_without(results: TaskResults) -> bool | None:
    return _seen(results, _nope(results), 1.0)


def _fails_blind(results: TaskResults) -> bool | None:
    return _seen(results, _blind(results), 0.0)


def _twin_is_learned(results: TaskResults) -> bool | None:
    return _seen(results, _blind(results), 1.0, order_counts=False)


def _one_layer_fails(results: TaskResults) -> bool | None:
    return _seen(results, _ablation(results, positional="none", attention="causal", layers=1), 0.0)


def _costs(results: TaskResults) -> bool | None:
    """Whether the causal ablation without positional encoding is slower, or worse, than the one with a learned one."""
    nope, learned = _nope(results), _ablation(results, positional="learned", attention="causal")
    if nope is None or learned is None or not results.problems.task.order_counts:
        return None
    more = results.compared("test_bits" if _by_bits(results) else "restricted_steps", nope, learned)
    return None if more is None or more.low is None else more.low > 0


CHECKS: dict[str, Callable[[TaskResults], bool | None]] = {
    "learns_without": _learns_without,
    "fails_blind": _fails_blind,
    "twin_is_learned": _twin_is_learned,
    "one_layer_fails": _one_layer_fails,
    "costs": _costs,
}
"""The sentence in `across.md` -> whether it holds on a task; None where that cannot be seen."""
