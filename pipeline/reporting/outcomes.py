"""Statistics of single ablations: how many runs converged, after how many steps, how good they are, what they cost."""

from collections.abc import Iterator

import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.params.score import BITS, EXACT_MATCH
from pipeline.reporting.ceiling import order_blind_ceiling
from pipeline.reporting.estimates import Row, estimate, statistic
from pipeline.reporting.intervals import summarise_mean, summarise_median, summarise_restricted_mean, summarise_share
from pipeline.reporting.results import STEPS, Results, restricted_steps

ALARM_LEVEL = 0.01
"""p-value below which a run with more right answers than the order-blind ceiling allows raises an alarm."""


@statistic("converged", *STEPS, "area_above_curve", "still_rising")
def convergence(results: Results) -> Iterator[Row]:
    """Yield the share of runs that converged, the mean steps to 50, 90 and 99 % and the area above the curve.

    A run that did not get there counts as its budget; where there are such runs, the mean is a lower bound.
    """
    for ablation in (ablation for ablation in results.ablations if ablation.convergence_threshold is not None):
        runs, budget = results.runs_of(ablation), ablation.training.steps
        converged, proved = int(runs["converged"].sum()), is_proved(runs)
        yield estimate(ablation, "converged", summarise_share(converged, len(runs), impossible=proved), "runs")
        if not proved:
            has_answers = ablation.task.score == EXACT_MATCH
            for quantity in STEPS if has_answers else ("restricted_steps",):
                steps = summarise_restricted_mean(restricted_steps(runs, budget, quantity), budget)
                yield estimate(ablation, quantity, steps, "steps")
            if has_answers:
                yield estimate(ablation, "area_above_curve", summarise_mean(runs["area_above_curve"]), "steps")
        if not is_order_blind(ablation.model):
            yield estimate(ablation, "still_rising", runs["still_rising"].mean(), "runs", n=len(runs))


def is_proved(runs: pd.DataFrame) -> bool:
    """Return True if it is proved that the ablation with these runs cannot converge."""
    return bool(runs["proved"].iloc[0])


@statistic("test_exact_match", "test_exact_match_mean", "test_bits", "diverged")
def scores(results: Results) -> Iterator[Row]:
    """Yield the test score of each ablation: median and mean of exact match, or the mean of bits per token."""
    for ablation in results.ablations:
        runs = results.runs_of(ablation)
        if ablation.task.score == BITS:
            yield estimate(ablation, "test_bits", summarise_mean(runs["test_bits"].dropna()), "bits")
        else:
            values = exact_match_scores(runs)
            yield estimate(ablation, "test_exact_match", summarise_median(values), "share")
            yield estimate(ablation, "test_exact_match_mean", summarise_mean(values), "share")
        yield estimate(ablation, "diverged", runs["diverged"].mean(), "runs", n=len(runs))


@statistic("right_characters", "exact_match_in_stratum")
def scores_by_part(results: Results) -> Iterator[Row]:
    """Yield the mean share of right answers for each position of the answer and each value of a stratum."""
    for ablation in (ablation for ablation in results.ablations if ablation.task.score != BITS):
        task, runs = ablation.task, results.runs_of(ablation)
        positions = range(1, len(task.answer_position_names) + 1)
        parts = [("right_characters", task.answer_unit, position) for position in positions]
        parts += [("exact_match_in_stratum", name, value) for name, values in task.strata.items() for value in values]
        for quantity, name, value in parts:
            if len(shares := runs[f"{name}_{value}"].dropna()):  # none if no test example is in the stratum
                yield estimate(ablation, quantity, summarise_mean(shares), "share", key=f"{name}={value}")


@statistic("order_blind_ceiling", "runs_above_ceiling")
def order_blind_check(results: Results) -> Iterator[Row]:
    """Yield the order-blind ceiling of each order-blind ablation, and the number of its runs above the ceiling.

    `p` is the smallest p-value of its runs: exact one-sided binomial, Holm-corrected over the order-blind runs of the
    task. A p-value below `ALARM_LEVEL` means a bug in the code.
    """
    for name, task in results.tasks.items():
        ceiling = order_blind_ceiling(task)
        blind = [ablation for ablation in results.of_task(name).ablations if is_order_blind(ablation.model)]
        if ceiling is None or not blind:
            continue
        runs = pd.concat([results.runs_of(ablation) for ablation in blind])
        right = (exact_match_scores(runs) * runs["test_examples"]).round()
        p_values = stats.binom.sf(right - 1, runs["test_examples"], ceiling)
        above, corrected, _, _ = multipletests(p_values, alpha=ALARM_LEVEL, method="holm")
        for ablation in blind:
            is_run = (runs["ablation"] == ablation.name).to_numpy()
            tested = {"n": int(is_run.sum()), "p": float(corrected[is_run].min()), "method": "binomial"}
            yield estimate(ablation, "order_blind_ceiling", ceiling, "share", method="enumeration")
            yield estimate(ablation, "runs_above_ceiling", above[is_run].mean(), "runs", **tested)


@statistic("parameters", "flops_per_step", "flops_spent")
def costs(results: Results) -> Iterator[Row]:
    """Yield the number of parameters, and where measured the floating point operations of a step and of a run."""
    for ablation in results.ablations:
        runs, measured = results.runs_of(ablation), results.measured
        yield estimate(ablation, "parameters", int(runs["parameters"].iloc[0]), "count")
        is_cost = (measured["ablation"] == ablation.name) & (measured["quantity"] == "cost.flops_per_step")
        if is_cost.any():
            per_step = float(measured.loc[is_cost, "value"].median())
            yield estimate(ablation, "flops_per_step", per_step, "flops")
            yield estimate(ablation, "flops_spent", per_step * float(runs["steps"].mean()), "flops")


def exact_match_scores(runs: pd.DataFrame) -> "pd.Series[float]":
    """Return the test exact match of each run; 0 for a run that diverged and has no score."""
    return runs["test_exact_match"].astype(float).fillna(0.0)
