"""Comparisons of ablations, seed by seed: runs that share a seed share their data order, so differences vary less.

All comparisons of the report are computed here; tables and sentences look them up. Only the comparisons that
`params.yaml` declares get a p-value; all others describe.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from typing import get_args

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.duration.survfunc import survdiff
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from pipeline import switches
from pipeline.params import Ablation, Comparison, comparable_quantities
from pipeline.params.experiment import ComparedQuantity
from pipeline.reporting import survival
from pipeline.reporting.claims import select_rows
from pipeline.reporting.experiment import tables
from pipeline.reporting.experiment.task_results import TaskResults, rows_after_training, rows_before_training
from pipeline.reporting.intervals import mean_with_interval

COMPARISON_COLUMNS = ("measure", "first", "second", "budget", "seeds", "difference", "low", "high")
P_VALUE_COLUMNS = ("declared", "p", "p_holm", "p_least", "p_log_rank", "p_log_rank_holm", "seeds_needed")
SIGNIFICANCE_LEVEL = 0.05
"""Significance level: a declared comparison is decided if its corrected p-value is below it."""
TARGET_POWER = 0.8
"""Probability with which the number of seeds in the column `seeds_needed` detects the observed difference."""
MAX_SEEDS_NEEDED = 200
"""Largest number of seeds that `seeds_needed` tries; if a comparison needs more, the result is NaN."""
MAX_SEEDS_ENUMERATED = 13
"""Largest number of seeds for which the power of the sign-flip test is simulated with all sign flips."""
SIMULATION_COUNT = 1000
"""Number of random experiments in the simulation of a test's power."""
POSITION_PROBE_FILTER = {"inputs": "random", "target": "position"}
"""Filter for the rows of the position probe that ablations are compared by."""
AblationPair = tuple[Ablation, Ablation]


def comparison_table(results: TaskResults, declared_comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Return a row for every comparison on one task: the mean of `first` - `second` over seeds, with its t interval.

    The measures are `restricted_steps` (steps to converge up to the smaller of the two budgets, `budget`),
    `test_exact_match` or `test_bits` (by the task's score), `effective_rank` after the last layer before training, and
    `margin` of the own token and `position_r2` after training, both ablations at the same depth. The steps of a pair
    that is not declared are left out if no run of the two ablations converged within the smaller budget.
    """
    ablations = {ablation.name: ablation for ablation in results.ablations}
    residual_free = intact_pairs(results.ablations)
    declared_pairs = [
        (ablations[comparison.first], ablations[comparison.second])
        for comparison in declared_comparisons
        if comparison.first in ablations
    ]
    described_pairs = [
        *encoding_pairs(results),
        *reference_pairs(results),
        *residual_free,
        *optimizer_pairs(results.ablations),
    ]
    names = dict.fromkeys((first.name, second.name) for first, second in [*declared_pairs, *described_pairs])
    pairs = [(ablations[first], ablations[second]) for first, second in names]
    states = _compared_state_measures(results)
    run_values = cache(lambda measure, budget: pivot_by_seed(measure, results.runs, budget))
    state_values = cache(lambda measure, depth: pivot_by_seed(measure, states[measure].query("depth == @depth"), 0))
    rows = [
        _comparison_row(measure, first, second, run_values(measure, _smaller_budget(first, second)))
        for measure in get_args(ComparedQuantity)
        for first, second in pairs
        if measure in comparable_quantities(first, second)
        if measure != "restricted_steps"
        or (first, second) in declared_pairs
        or _has_converged_run(first, second, results.runs)
    ]
    rows += [
        _comparison_row(measure, first, second, state_values(measure, depth))
        for measure in states
        for first, second in residual_free
        for depth in [first.model.layers if measure == "effective_rank" else comparison_depth(first)]
    ]
    return pd.DataFrame([row for row in rows if row["seeds"]], columns=list(COMPARISON_COLUMNS))


def _has_converged_run(first: Ablation, second: Ablation, runs: pd.DataFrame) -> bool:
    """Return True if at least one run of the two ablations converged within the smaller of their budgets."""
    steps = runs.loc[runs["ablation"].isin([first.name, second.name]), "steps_to_converge"]
    return bool((steps.astype(float) <= _smaller_budget(first, second)).any())


def _smaller_budget(first: Ablation, second: Ablation) -> int:
    return min(first.training.steps, second.training.steps)


def add_p_values(table: pd.DataFrame, declared_comparisons: Sequence[Comparison], runs: pd.DataFrame) -> pd.DataFrame:
    """Return the table of comparisons with the columns `P_VALUE_COLUMNS`, filled for declared comparisons.

    `p` is the p-value of a two-sided sign-flip permutation test of the mean; `p_holm` is corrected over all declared
    comparisons; `p_least` is the smallest value that `p_holm` can take with so many seeds. `p_log_rank` is the p-value
    of a log-rank test of the steps, which does not pair seeds; `p_log_rank_holm` is corrected over the declared
    comparisons of steps. All p-values are NaN if `p_least` is not below `SIGNIFICANCE_LEVEL`. `seeds_needed` is the
    result of the function of that name.
    """
    table = table.assign(**dict.fromkeys(P_VALUE_COLUMNS, np.nan)).assign(declared=0)
    for comparison in declared_comparisons:
        first, second, measure = comparison.first, comparison.second, comparison.quantity
        matches = (table["first"] == first) & (table["second"] == second) & (table["measure"] == measure)
        for index, row in table[matches].iterrows():
            differences = differences_by_seed(pivot_by_seed(measure, runs, row["budget"]), first, second)
            table.loc[index, "declared"] = 1
            table.loc[index, "seeds_needed"] = seeds_needed(differences, SIGNIFICANCE_LEVEL / len(declared_comparisons))
            if (least := len(declared_comparisons) * smallest_p_value(row["seeds"])) >= SIGNIFICANCE_LEVEL:
                continue
            table.loc[index, "p_least"] = least
            table.loc[index, "p"] = sign_flip_p_value(differences)
            if measure == "restricted_steps":
                table.loc[index, "p_log_rank"] = log_rank_p_value(runs, first, second, row["budget"])
    of_steps = [comparison for comparison in declared_comparisons if comparison.quantity == "restricted_steps"]
    for column, family in (("p", declared_comparisons), ("p_log_rank", of_steps)):
        tested = table.index[table[column].notna()]
        if len(tested):  # a comparison with too few seeds counts in the correction, with p = 1
            p_values = [*table.loc[tested, column], *[1.0] * (len(family) - len(tested))]
            table.loc[tested, f"{column}_holm"] = multipletests(p_values, method="holm")[1][: len(tested)]
    return table


def _comparison_row(measure: str, first: Ablation, second: Ablation, values_by_seed: pd.DataFrame) -> dict[str, object]:
    differences = differences_by_seed(values_by_seed, first.name, second.name)
    if not len(differences):
        return {"seeds": 0}
    budget = _smaller_budget(first, second)
    row = (measure, first.name, second.name, budget, len(differences), *mean_with_interval(differences))
    return dict(zip(COMPARISON_COLUMNS, row, strict=True))


def pivot_by_seed(measure: str, table: pd.DataFrame, budget: int) -> pd.DataFrame:
    """Return the values of a measure with a row per seed and a column per ablation; NaN for a missing value.

    Args:
        measure: name of a column, or `restricted_steps`.
        table: a row per (ablation, seed).
        budget: largest number of steps that a run counts with; read only for `restricted_steps`.
    """
    values = {
        "restricted_steps": lambda runs: survival.restricted_steps(runs, budget),
        "test_exact_match": tables.exact_match_scores,
    }.get(measure, lambda rows: rows[measure])
    with_values = table.assign(value=values(table).astype(float))
    return with_values.pivot(index="seed", columns="ablation", values="value").sort_index()


def differences_by_seed(values_by_seed: pd.DataFrame, first: str, second: str) -> np.ndarray:
    """Return the difference of two ablations' values, `first` - `second`, for every seed that both have.

    `values_by_seed` has a row per seed and a column per ablation (see `pivot_by_seed`).
    """
    if not {first, second} <= set(values_by_seed):
        return np.empty(0)
    differences = values_by_seed[first].to_numpy() - values_by_seed[second].to_numpy()
    return differences[~np.isnan(differences)]


def _compared_state_measures(results: TaskResults) -> Mapping[str, pd.DataFrame]:
    """Return the measures of hidden states by which ablations are compared: measure -> a row per run and depth."""
    rank, margin = results.measurement_table("effective_rank"), results.measurement_table("own_token")
    probe = results.measurement_table("position_probe")
    measures = {}
    if len(rank):
        measures["effective_rank"] = rows_before_training(rank)
    if len(margin):
        measures["margin"] = rows_after_training(margin)
    if len(probe):
        position = rows_after_training(select_rows(probe, POSITION_PROBE_FILTER))
        measures["position_r2"] = position.rename(columns={"r2": "position_r2"})
    return {name: rows for name, rows in measures.items() if len(rows)}


def encoding_pairs(results: TaskResults) -> Sequence[AblationPair]:
    """Return each causal ablation without positional encoding paired with each ablation that only adds an encoding."""
    causal = results.usual_ablations(attention="causal")
    without = switches.select_ablations(causal, positional="none")
    return [(ablation, other) for ablation in without for other in causal if other not in without]


def reference_pairs(results: TaskResults) -> Sequence[AblationPair]:
    """Pair every usual ablation with one causal ablation with positional encoding (a learned one, if possible)."""
    ablations = results.usual_ablations()
    references = sorted(
        (
            ablation
            for ablation in ablations
            if ablation.model.attention == "causal" and ablation.model.positional != "none"
        ),
        key=lambda ablation: ablation.model.positional != "learned",
    )
    return [(ablation, references[0]) for ablation in ablations if ablation != references[0]] if references else []


def intact_pairs(ablations: Sequence[Ablation]) -> Sequence[AblationPair]:
    """Return every ablation that lacks residual connections paired with its intact counterpart, if that exists."""
    return [
        (ablation, intact)
        for ablation in ablations
        if not switches.is_intact(ablation) and (intact := switches.find_intact_counterpart(ablations, ablation))
    ]


def single_layer_pairs(ablations: Sequence[Ablation]) -> Sequence[AblationPair]:
    """Pair each ablation that lacks both residual connections of one layer with its intact counterpart, by layer.

    All pairs are causal decoders without positional encoding whose other switches have their most common value, so
    that all layers are layers of the same network.
    """
    usual = switches.select_ablations(
        ablations, **(switches.find_unmentioned_values(ablations) | {"positional": "none", "attention": "causal"})
    )
    pairs = [
        (ablation, intact)
        for ablation, intact in intact_pairs(ablations)
        if intact in usual
        and switches.lacks_residuals(ablation)
        and ablation.model.residual_free.attention == ablation.model.residual_free.mlp
        and len(ablation.model.residual_free.layers) == 1
    ]
    return sorted(pairs, key=lambda pair: pair[0].model.residual_free.layers)


def optimizer_pairs(ablations: Sequence[Ablation]) -> Sequence[AblationPair]:
    """Return every ablation trained with Muon paired with the same ablation trained with each other optimizer."""
    muon = switches.select_ablations(ablations, optimizer="muon")
    others = sorted({ablation.training.optimizer for ablation in ablations} - {"muon"})
    return [
        (ablation, other)
        for ablation in muon
        for name in others
        for other in switches.select_variants(ablations, ablation, optimizer=name)
    ]


def comparison_depth(ablation: Ablation) -> int:
    """Return the depth after the last layer that lacks a residual connection; of an intact ablation, the last depth."""
    return 1 + max(ablation.model.residual_free.layers, default=ablation.model.layers - 1)


def seeds_needed(differences: np.ndarray, significance_level: float) -> float:
    """Return how many new seeds would detect a mean difference as large as the observed one, by the sign-flip test.

    They detect it with probability `TARGET_POWER`. NaN if more than `MAX_SEEDS_NEEDED` are needed, if only one seed
    was observed, or if all differences are equal.
    """
    if len(differences) < 2 or not (spread := differences.std(ddof=1)):
        return np.nan
    seeds = range(2, MAX_SEEDS_NEEDED + 1)
    effect = abs(differences.mean()) / spread
    return next(
        (
            float(n)
            for n in seeds
            if smallest_p_value(n) <= significance_level
            and sign_flip_power(effect, n, significance_level) >= TARGET_POWER
        ),
        np.nan,
    )


def sign_flip_power(effect_size: float, seed_count: int, significance_level: float) -> float:
    """Return the probability that the sign-flip test detects a normal mean difference of `effect` standard deviations.

    The power is simulated for at most `MAX_SEEDS_ENUMERATED` seeds. For more seeds the power of the t test is returned,
    which is nearly the same.
    """
    if seed_count > MAX_SEEDS_ENUMERATED:
        return float(TTestPower().power(effect_size, seed_count, significance_level))
    flips = np.array(list(product((1.0, -1.0), repeat=seed_count - 1)))  # the other half has the same absolute means
    samples = np.random.default_rng(0).normal(effect_size, 1.0, (SIMULATION_COUNT, seed_count))
    means = np.abs(samples[:, 1:] @ flips.T + samples[:, :1])
    return float((np.mean(means >= means[:, :1] - 1e-9, axis=1) <= significance_level).mean())


def smallest_p_value(seed_count: int) -> float:
    """Return the smallest p-value that a two-sided sign-flip test of `seed_count` pairs can give."""
    return 2.0 ** (1 - seed_count)


def sign_flip_p_value(differences: np.ndarray) -> float:
    """Return the p-value of a two-sided sign-flip permutation test that the mean difference is 0.

    Up to 13 differences, all sign flips are enumerated; for more, 9,999 random ones (the same in every call).
    """
    if not differences.any():
        return 1.0
    result = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=9_999, rng=np.random.default_rng(0)
    )
    return float(result.pvalue)


def log_rank_p_value(runs: pd.DataFrame, first: str, second: str, budget: int) -> float:
    """Return the p-value of a log-rank test of two ablations' steps to converge up to `budget`; 1 if none converged."""
    both = runs[runs["ablation"].isin([first, second])]
    converged = both["steps_to_converge"].astype(float) <= budget
    if not converged.any():
        return 1.0
    return float(survdiff(survival.restricted_steps(both, budget), converged.astype(int), both["ablation"])[1])
