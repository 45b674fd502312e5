"""Comparison of many tasks: the outcome of each kind of ablation on each task, and on how many tasks a claim holds."""

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import BITS
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment.figures import across as figures
from pipeline.reporting.experiment.section import SectionContent
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure, Table
from pipeline.reporting.wording import format_cell, format_interval, percent

MAX_TASKS_IN_FULL = 3
"""Largest number of tasks that are reported one by one; more tasks are compared with each other."""
TASK_OUTCOME_COLUMNS = (
    "task", "order_counts", "kind", "ablation", "runs", "converged", "low", "high", "test_bits", "ceiling", "shade",
)  # fmt: skip
CLAIM_CHECK_COLUMNS = ("claim", "task", "holds")


def should_compare_tasks(results: Sequence[TaskResults]) -> bool:
    """Return True if there are so many tasks that the report compares them, instead of reporting each in full."""
    return len(results) > MAX_TASKS_IN_FULL


def describe_kind(results: TaskResults, ablation: Ablation) -> str:
    """Return the ablation in words: its switches that differ from those of most ablations of the task.

    Ablations that differ from the others in the same way get the same words on every task.
    """
    return switches.describe_ablation(ablation, switches.find_unmentioned_values(results.ablations))


def task_outcome_table(results: Sequence[TaskResults]) -> pd.DataFrame:
    """Return `tasks.csv`: the outcome of each kind of ablation on each task.

    `converged` is the number of converged runs (`low`, `high`: exact interval of their share), `test_bits` the mean
    test bits per token (with its t interval), by the task's score. `ceiling` is the order-blind ceiling of the task.
    `shade` says how good the outcome is, from 0 to 1: the share of converged runs, or the position of the bits between
    the worst and the best ablation of the task and its shuffled data.
    """
    rows = []
    for task_results in results:
        task = task_results.task
        same_data = [other for other in results if other.task.unshuffled == task.unshuffled]
        best, worst = _outcome_range(same_data)
        for ablation in task_results.ablations:
            outcome = _read_outcome(task_results, ablation)
            if outcome is None:
                continue
            if _is_scored_in_bits(task_results):
                converged, bits, shade = None, outcome.value, (worst - outcome.value) / (worst - best or 1.0)
            else:
                converged, bits, shade = outcome.value, None, outcome.value / (outcome.n or 1)
            names = (
                task_results.dataset,
                int(task.order_matters),
                describe_kind(task_results, ablation),
                ablation.name,
            )
            numbers = (outcome.n, converged, outcome.low, outcome.high, bits, task_results.ceiling, shade)
            rows.append([*names, *numbers])
    table = pd.DataFrame(rows, columns=list(TASK_OUTCOME_COLUMNS)).astype({"converged": "Int64"})
    return table.drop_duplicates(["task", "kind"], ignore_index=True)


def _read_outcome(results: TaskResults, ablation: Ablation) -> Estimate | None:
    """Read the outcome of an ablation: bits per token, or number of converged runs, depending on the task's score."""
    return results.mean_bits(ablation) if _is_scored_in_bits(results) else results.converged_runs(ablation)


def _outcome_range(results: Sequence[TaskResults]) -> tuple[float, float]:
    """Return the smallest and the largest outcome of an ablation on these tasks."""
    outcomes = [
        _read_outcome(task_results, ablation) for task_results in results for ablation in task_results.ablations
    ]
    values = [outcome.value for outcome in outcomes if outcome]
    return min(values, default=0.0), max(values, default=0.0)


def claim_check_table(results: Sequence[TaskResults]) -> pd.DataFrame:
    """Return `holds.csv`: for each claim and each task on which it can be checked, `holds` is 1 if it is true."""
    rows = [
        (claim, task_results.dataset, int(holds))
        for claim, check in CLAIM_CHECKS.items()
        for task_results in results
        if (holds := check(task_results)) is not None
    ]
    return pd.DataFrame(rows, columns=list(CLAIM_CHECK_COLUMNS))


def build_task_comparison(results: Sequence[TaskResults]) -> SectionContent:
    """Build the section that compares the tasks: a table and a figure of outcomes, and a sentence per claim."""
    tables = results[0].tables
    reader = results[0]
    holds = tables["holds.csv"]
    claims = []
    for name in dict.fromkeys(holds["claim"]):
        where = {"claim": name}
        estimates = {
            "held": reader.read_estimate("holds.csv", "holds", "count", where, statistic="sum"),
            "tasks": reader.read_estimate("holds.csv", "holds", "count", where, statistic="rows"),
        }
        failed = holds.loc[(holds["claim"] == name) & (holds["holds"] == 0), "task"].tolist()
        exceptions = [
            _describe_failing_task(task_results) for task_results in results if task_results.dataset in failed
        ]
        claims.append(Claim(name, estimates, {"where_not": exceptions}, role="lead"))
    kinds = list(dict.fromkeys(tables["tasks.csv"]["kind"]))
    figure = Figure(
        "tasks",
        "Outcome of each kind of ablation on each task: runs that converged, or bits per token",
        "A row is a task, below it its order-free control; a column is a kind of ablation. k/n: runs that learned the "
        "task within their budget; a number with a point: test bits per token. The darker, the better: the share of "
        "runs, or where the bits lie between the worst and the best on a task and its shuffled data. Right: the most "
        "that is possible without order, where it can be enumerated.",
        partial(figures.draw_outcomes_by_task, tables["tasks.csv"], kinds),
    )
    return SectionContent(claims, [_outcome_table(results, kinds)], [figure])


def _outcome_table(results: Sequence[TaskResults], kinds: Sequence[str]) -> Table:
    rows = []
    for task_results in results:
        ablations = {describe_kind(task_results, ablation): ablation for ablation in reversed(task_results.ablations)}
        cells = [
            _format_outcome(_read_outcome(task_results, ablations[kind])) if kind in ablations else " "
            for kind in kinds
        ]
        ceiling = " " if task_results.ceiling is None else percent(task_results.ceiling)
        rows.append([f"`{task_results.dataset}`", *cells, ceiling])
    return Table(["Task", *kinds, "Ceiling"], rows, "k/n: runs that converged (95% interval); or test bits per token")


def _format_outcome(outcome: Estimate | None) -> str:
    if outcome is None or outcome.unit != "count":
        return format_cell(outcome)
    return f"{format_cell(outcome)} ({format_interval(outcome)})"


def _is_scored_in_bits(results: TaskResults) -> bool:
    return results.task.score == BITS


def _first_usual_ablation(results: TaskResults, **switch_values: object) -> Ablation | None:
    return next(iter(results.usual_ablations(**switch_values)), None)


def _share_that_learned(results: TaskResults, ablation: Ablation | None) -> float | None:
    """Return the share of an ablation's runs that learned the task; None if there is no ablation or no result.

    On a task scored in bits it is 1 if the ablation predicts better in order than on shuffled data, otherwise 0.
    """
    if ablation is None:
        return None
    if _is_scored_in_bits(results):
        order_value = results.order_value(ablation)
        return None if order_value is None or order_value.low is None else float(order_value.low > 0)
    converged = results.converged_runs(ablation)
    return None if converged is None else converged.value / (converged.n or 1)


def _describe_failing_task(results: TaskResults) -> str:
    """Return the task's name, with a remark if causal ablations with learned positional encoding fail on it, too."""
    share = _share_that_learned(results, _first_usual_ablation(results, positional="learned", attention="causal"))
    remark = "" if share in (None, 1.0) else " (not learned with learned PE either)"
    return f"`{results.dataset}`{remark}"


def _is_learned_by(
    results: TaskResults, ablation: Ablation | None, expected_share: float, *, order_matters: bool = True
) -> bool | None:
    """Return True if exactly `expected_share` of the ablation's runs learned the task.

    None if that is unknown, or if the task's `order_matters` differs from the parameter.
    """
    if results.task.order_matters != order_matters:
        return None
    learned = _share_that_learned(results, ablation)
    return None if learned is None else learned == expected_share


def _find_causal_without_encoding(results: TaskResults) -> Ablation | None:
    return _first_usual_ablation(results, positional="none", attention="causal")


def _find_full_attention_without_encoding(results: TaskResults) -> Ablation | None:
    return _first_usual_ablation(results, positional="none", attention="full")


def _is_one_layer_insufficient(results: TaskResults) -> bool | None:
    ablation = _first_usual_ablation(results, positional="none", attention="causal", layers=1)
    return _is_learned_by(results, ablation, 0.0)


def _is_costlier_without_encoding(results: TaskResults) -> bool | None:
    """Return True if the causal ablation is slower (or worse, in bits) without positional encoding than with it."""
    without = _find_causal_without_encoding(results)
    learned = _first_usual_ablation(results, positional="learned", attention="causal")
    if without is None or learned is None or not results.task.order_matters:
        return None
    difference = results.mean_difference(
        "test_bits" if _is_scored_in_bits(results) else "restricted_steps", without, learned
    )
    return None if difference is None or difference.low is None else difference.low > 0


CLAIM_CHECKS: dict[str, Callable[[TaskResults], bool | None]] = {
    "learns_without": lambda results: _is_learned_by(results, _find_causal_without_encoding(results), 1.0),
    "fails_blind": lambda results: _is_learned_by(results, _find_full_attention_without_encoding(results), 0.0),
    "twin_is_learned": lambda results: _is_learned_by(
        results, _find_full_attention_without_encoding(results), 1.0, order_matters=False
    ),
    "one_layer_fails": _is_one_layer_insufficient,
    "costs": _is_costlier_without_encoding,
}
"""Claim, named as its macro in `across.md` -> function that checks the claim on a task; None if it does not apply."""
