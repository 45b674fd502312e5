"""Contrasts: differences between two ablations, and the p-values of those that `params.yaml` declares.

Every pair of ablations of a task that differ in exactly one switch is compared. Runs are not paired by seed: runs of
two ablations with one seed are no more alike than others.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from pipeline import switches
from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.params import Ablation, Comparison, comparable_quantities
from pipeline.params.score import BITS
from pipeline.reporting import intervals, permutation
from pipeline.reporting.estimates import DECIDED_LEVEL, Row, estimate, statistic
from pipeline.reporting.intervals import Summary, summarise_mean
from pipeline.reporting.outcomes import exact_match_scores, is_proved
from pipeline.reporting.results import EARLIER_STEPS, STEPS, Results, restricted_steps
from pipeline.reporting.wording import Unit

UNITS: dict[str, Unit] = {"restricted_steps": "steps", "test_exact_match": "points", "test_bits": "bits"}
"""Quantity in which ablations can be declared to be compared -> unit of the difference."""
BESIDE_STEPS = (*EARLIER_STEPS, "area_above_curve")
"""Quantities that are compared beside `restricted_steps`, to see whether a verdict depends on the threshold."""
RATIOS = {"restricted_steps": "steps_ratio", **{quantity: f"{quantity}_ratio" for quantity in EARLIER_STEPS}}
"""Quantity of steps -> quantity of the ratio of two ablations with different positional encodings."""
OTHER_TESTS = ("sign_flip", "log_rank")
"""Tests of a difference in `restricted_steps` beside the permutation test, which decides."""
Pair = tuple[Ablation, Ablation]


def contrast_pairs(ablations: Sequence[Ablation], declared: Sequence[Comparison]) -> list[Pair]:
    """Return the declared pairs, then every other pair of a task that differs in one switch, the later ablation first.

    Seeds, budget, evaluations and snapshots may differ; with the optimizer, all settings of the training may.
    """
    by_name = {ablation.name: ablation for ablation in ablations}
    pairs = [(by_name[comparison.first], by_name[comparison.second]) for comparison in declared]
    for earlier, later in combinations(ablations, 2):
        is_new = (later, earlier) not in pairs and (earlier, later) not in pairs
        if is_new and earlier.dataset == later.dataset and len(switches.differing_switches(later, earlier)) == 1:
            is_reversed = earlier.model.positional == "none" != later.model.positional
            pairs.append((earlier, later) if is_reversed else (later, earlier))
    return pairs


@statistic(*UNITS, *BESIDE_STEPS, *OTHER_TESTS, *RATIOS.values(), *(f"runs_needed_{quantity}" for quantity in UNITS))
def differences(results: Results) -> Iterator[Row]:
    """Yield the mean difference of each pair in steps and in the test score; with p if the comparison is declared.

    Steps count up to the smaller of the two budgets. Those of an undeclared pair are left out if no run converged in
    it, or if one of the two cannot converge by proof. Beside the steps to the target stand those to the other
    thresholds, the area above the curve, and the ratios if the positional encodings differ.
    """
    declared = {(comparison.first, comparison.second, comparison.quantity) for comparison in results.comparisons}
    for first, second in contrast_pairs(results.ablations, results.comparisons):
        runs = [results.runs_of(ablation) for ablation in (first, second)]
        budget = min(first.training.steps, second.training.steps)
        columns = {"versus": second.name, "budget": budget}
        for quantity in comparable_quantities(first, second):
            in_steps, is_declared = quantity == "restricted_steps", (first.name, second.name, quantity) in declared
            quantities = [quantity, *(_quantities_beside_steps(first, second) if in_steps else ())]
            values = {name: [values_by_seed(table, name, budget) for table in runs] for name in quantities}
            first_values, second_values = values[quantity]
            can_differ = not any(map(is_proved, runs)) and min(first_values.min(), second_values.min()) < budget
            if first_values.empty or second_values.empty or (in_steps and not is_declared and not can_differ):
                continue
            for name, pair in values.items():
                p = permutation.permutation_p_value(*(value.to_numpy() for value in pair)) if is_declared else np.nan
                difference = summarise_mean_difference(name, pair, budget) | {"p": p}
                yield estimate(first, name, difference, UNITS.get(name, "steps"), **columns)
                if name in RATIOS and first.model.positional != second.model.positional:
                    means = (intervals.summarise_restricted_mean(steps, budget) for steps in pair)
                    yield estimate(first, RATIOS[name], intervals.summarise_quotient(*means), "ratio", **columns)
            if in_steps and is_declared:
                yield from _other_tests(first, first_values, second_values, columns)
            if is_declared:
                level = DECIDED_LEVEL / len(results.comparisons)
                needed = permutation.runs_needed(first_values.to_numpy(), second_values.to_numpy(), level)
                yield estimate(first, f"runs_needed_{quantity}", needed, "count", **columns)


def _quantities_beside_steps(first: Ablation, second: Ablation) -> Sequence[str]:
    if first.task.score == BITS:
        return ()
    same_budget = first.training.steps == second.training.steps  # on which the area above a curve depends
    return [name for name in BESIDE_STEPS if same_budget or name != "area_above_curve"]


def _other_tests(
    first: Ablation, first_values: "pd.Series[float]", second_values: "pd.Series[float]", columns: Row
) -> Iterator[Row]:
    tests = {"log_rank": permutation.log_rank_p_value(first_values, second_values, columns["budget"])}
    if len(by_seed := (first_values - second_values).dropna()):
        tests["sign_flip"] = permutation.sign_flip_p_value(by_seed.to_numpy())
    for name, p in tests.items():
        counts = {"n": min(len(first_values), len(second_values)), "method": name.replace("_", "-")}
        yield estimate(first, name, np.nan, "steps", p=p, **counts, **columns)


def summarise_mean_difference(quantity: str, values: Sequence["pd.Series[float]"], budget: int) -> Summary:
    """Summarise the difference of two ablations' means, first minus second, from their `values_by_seed`."""
    if quantity in STEPS:
        return intervals.summarise_difference(*(intervals.summarise_restricted_mean(steps, budget) for steps in values))
    return intervals.summarise_difference(*map(summarise_mean, values))


def values_by_seed(runs: pd.DataFrame, quantity: str, budget: int = 0) -> "pd.Series[float]":
    """Return a quantity of an ablation's runs, by seed; runs without a value are left out."""
    runs = runs.set_index("seed").sort_index()
    if quantity in STEPS:
        return restricted_steps(runs, budget, quantity)
    return exact_match_scores(runs) if quantity == "test_exact_match" else runs[quantity].astype(float).dropna()


def substitutions(ablations: Sequence[Ablation]) -> Iterator[tuple[Ablation, Ablation, Ablation]]:
    """Yield each ablation with a substitute for missing connections, or whose connections fade, with those without the
    connections and intact."""
    for ablation in ablations:
        if switches.is_intact(ablation) or switches.lacks_residuals(ablation):
            continue
        without = switches.find_variant(ablations, ablation, residual_substitute="none", residual_fade_steps=None)
        intact = switches.find_intact_counterpart(ablations, ablation)
        if without and intact:
            yield ablation, without, intact


@statistic("rescue")
def rescues(results: Results) -> Iterator[Row]:
    """Yield the share of a connection's benefit that each substitute gives back: a ratio of saved steps, by seed.

    Both are compared with the ablation without the connection, up to the smallest budget of the three. The interval is
    missing if the intact ablation does not differ significantly from the one without the connection.
    """
    for compared in substitutions(results.ablations):
        budget = min(ablation.training.steps for ablation in compared)
        columns = [values_by_seed(results.runs_of(ablation), "restricted_steps", budget) for ablation in compared]
        substituted, plain, intact = pd.concat(columns, axis=1, join="inner").to_numpy().T
        if len(plain):
            key = f"plain={compared[1].name};intact={compared[2].name}"
            ratio = intervals.summarise_ratio(plain - substituted, plain - intact)
            yield estimate(compared[0], "rescue", ratio, "ratio", key=key, budget=budget)


@statistic("order_value")
def order_values(results: Results) -> Iterator[Row]:
    """Yield how many bits per token an ablation saves against the best ablation that cannot see order, on its data.

    The best one is that with the lowest mean validation score.
    """

    def mean_bits(ablation: Ablation) -> Summary:
        return summarise_mean(values_by_seed(results.runs_of(ablation), "test_bits"))

    for task in (name for name, task in results.tasks.items() if task.score == BITS):
        ablations = results.of_task(task).ablations
        blind = [ablation for ablation in ablations if is_order_blind(ablation.model)]
        best = min(blind, key=lambda ablation: results.runs_of(ablation)["validation_bits"].mean(), default=None)
        for ablation in ablations:
            if best and ablation not in blind:
                saved = intervals.summarise_difference(mean_bits(best), mean_bits(ablation))
                yield estimate(ablation, "order_value", saved, "bits", key=f"blind={best.name}")


def correct_p_values(estimates: pd.DataFrame, declared: Sequence[Comparison]) -> pd.DataFrame:
    """Return the table of estimates with Holm's correction over the declared comparisons in `p_corrected`.

    The other thresholds and the other tests are corrected each by itself. A comparison with too few runs ever to be
    decided gets no p-value, but counts in the correction.
    """
    of_steps = [comparison for comparison in declared if comparison.quantity == "restricted_steps"]
    families = [(list(UNITS), declared), *(([name], of_steps) for name in (*BESIDE_STEPS, *OTHER_TESTS))]
    for quantities, family in families:
        tested = estimates["quantity"].isin(quantities) & estimates["p"].notna()
        smallest = estimates["n"].map(lambda n: permutation.smallest_p_value(n, n), na_action="ignore").fillna(1.0)
        can_decide = smallest * len(declared) < DECIDED_LEVEL
        estimates.loc[tested & ~can_decide, "p"] = np.nan
        index = estimates.index[tested & can_decide]
        if len(index):
            p_values = [*estimates.loc[index, "p"], *[1.0] * (len(family) - len(index))]
            estimates.loc[index, "p_corrected"] = multipletests(p_values, method="holm")[1][: len(index)]
    return estimates
