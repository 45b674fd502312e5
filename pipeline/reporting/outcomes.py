"""Statistics of single ablations: how many runs converged, after how many steps, how good they are, what they cost."""

from collections.abc import Iterator

import pandas as pd
from statsmodels.stats.multitest import multipletests

from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.params import Ablation
from pipeline.params.score import BITS
from pipeline.reporting.estimates import Row, estimate, statistic
from pipeline.reporting.intervals import binomial_p_value, summarise_mean, summarise_median, summarise_share
from pipeline.reporting.results import Results, restricted_steps

ALARM_LEVEL = 0.01
"""p-value below which a run with more right answers than the order-blind ceiling allows raises an alarm."""


def is_proved_impossible(results: Results, ablation: Ablation) -> bool:
    """Return True if the architecture is order-blind, and no order-blind predictor reaches the ablation's threshold."""
    ceiling, threshold = results.ceilings[ablation.dataset], ablation.convergence_threshold
    return ceiling is not None and threshold is not None and ceiling < threshold and is_order_blind(ablation.model)


@statistic("converged", "restricted_steps", "still_rising")
def convergence(results: Results) -> Iterator[Row]:
    """Yield the share of runs that converged and the mean steps; a run that did not converge counts as its budget.

    Where some runs are censored, the mean is a lower bound.
    """
    for ablation in (ablation for ablation in results.ablations if ablation.convergence_threshold is not None):
        runs = results.runs_of(ablation)
        converged, impossible = int(runs["converged"].sum()), is_proved_impossible(results, ablation)
        yield estimate(ablation, "converged", summarise_share(converged, len(runs), impossible=impossible), "runs")
        if not impossible:
            steps = summarise_mean(restricted_steps(runs, ablation.training.steps))
            steps["method"] += "; at least" if converged < len(runs) else ""
            yield estimate(ablation, "restricted_steps", steps, "steps")
        if not is_order_blind(ablation.model):
            yield estimate(ablation, "still_rising", runs["still_rising"].mean(), "runs", n=len(runs))


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
        for position in range(1, len(task.answer_position_names) + 1):
            if len(values := runs[f"{task.answer_unit}_{position}"].dropna()):
                key = f"{task.answer_unit}={position}"
                yield estimate(ablation, "right_characters", summarise_mean(values), "share", key=key)
        for stratum, k in ((stratum, k) for stratum, values in task.strata.items() for k in values):
            if len(values := runs.loc[runs[f"{stratum}_{k}_examples"] > 0, f"{stratum}_{k}"].dropna()):
                key = f"{stratum}={k}"
                yield estimate(ablation, "exact_match_in_stratum", summarise_mean(values), "share", key=key)


@statistic("order_blind_ceiling", "runs_above_ceiling")
def order_blind_check(results: Results) -> Iterator[Row]:
    """Yield the order-blind ceiling of each order-blind ablation, and the number of its runs above the ceiling.

    `p` is the smallest p-value of its runs: exact one-sided binomial, Holm-corrected over the order-blind runs of the
    task. A p-value below `ALARM_LEVEL` means a bug in the code.
    """
    for task, ceiling in results.ceilings.items():
        blind = [ablation for ablation in results.of_task(task).ablations if is_order_blind(ablation.model)]
        if ceiling is None or not blind:
            continue
        runs = pd.concat([results.runs_of(ablation) for ablation in blind])
        right = (exact_match_scores(runs) * runs["test_examples"]).round().astype(int)
        counts = zip(right, runs["test_examples"], strict=True)
        p_values = [binomial_p_value(int(correct), int(examples), ceiling) for correct, examples in counts]
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
