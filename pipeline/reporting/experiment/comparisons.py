"""Ablations compared seed by seed: runs that share a seed share their data order, so differences say more than means.

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
from pipeline.params.comparison import Quantity
from pipeline.reporting import survival
from pipeline.reporting.claims import select_rows
from pipeline.reporting.experiment import tables
from pipeline.reporting.experiment.task_results import TaskResults, after_training, before_training
from pipeline.reporting.intervals import mean_with_interval

COLUMNS = ("measure", "first", "second", "budget", "seeds", "difference", "low", "high")
DECIDED = ("declared", "p", "p_holm", "p_least", "p_log_rank", "p_log_rank_holm", "seeds_needed")
POWER = 0.8
"""How likely a difference of the size found should be seen, if it is real."""
EXACT, SIMULATED = 13, 1000
"""Up to so many seeds all flips of signs are tried; how often an experiment is simulated."""
POSITION = {"rows": "random", "target": "position"}
"""Of the probes, the one that is compared."""
MOST_SEEDS = 200
"""Beyond so many nobody asks further."""
ALPHA = 0.05
"""What a corrected p-value must be below to decide."""
Pair = tuple[Ablation, Ablation]


def comparison_table(results: TaskResults, declared: Sequence[Comparison]) -> pd.DataFrame:
    """Every comparison on one task, a row each: the mean over the `seeds` that both have of `first` less `second`, with
    its t interval. Measures: `restricted_steps`, steps to converge up to the smaller of the two budgets (`budget`);
    `test_exact_match` or `test_bits`, as the task is scored; `effective_rank` of the last layer before training;
    `margin` of the own token and `position_r2` of the trained states, at equal depth. Steps of pairs that are not
    declared are left out where no run of either converged within the budget."""
    ablations = {ablation.name: ablation for ablation in results.ablations}
    lacking = intact_pairs(results.ablations)
    asked = [(ablations[one.first], ablations[one.second]) for one in declared if one.first in ablations]
    all_pairs = [
        *encoding_pairs(results),
        *reference_pairs(results),
        *lacking,
        *optimizer_pairs(results.ablations),
    ]
    every = list(dict.fromkeys((one.name, other.name) for one, other in [*asked, *all_pairs]))
    states = _states(results)
    of_runs = cache(lambda measure, budget: pivot_by_seed(measure, results.runs, budget))
    of_states = cache(lambda measure, depth: pivot_by_seed(measure, states[measure].query("depth == @depth"), 0))
    rows = [
        _row(
            measure, ablations[first], ablations[second], of_runs(measure, _budget(ablations[first], ablations[second]))
        )
        for measure in get_args(Quantity)
        for first, second in every
        if measure in comparable_quantities(ablations[first], ablations[second])
        if measure != "restricted_steps"
        or (ablations[first], ablations[second]) in asked
        or _reached(ablations[first], ablations[second], results.runs)
    ]
    rows += [
        _row(measure, first, second, of_states(measure, depth))
        for measure in states
        for first, second in lacking
        for depth in [first.model.layers if measure == "effective_rank" else comparison_depth(first)]
    ]
    return pd.DataFrame([row for row in rows if row["seeds"]], columns=list(COLUMNS))


def _reached(first: Ablation, second: Ablation, runs: pd.DataFrame) -> bool:
    """Whether a run of either converged within the budget that they share; otherwise they differ by nothing there."""
    steps = runs.loc[runs["ablation"].isin([first.name, second.name]), "steps_to_converge"]
    return bool((steps.astype(float) <= _budget(first, second)).any())


def _budget(first: Ablation, second: Ablation) -> int:
    return min(first.training.steps, second.training.steps)


def add_p_values(table: pd.DataFrame, declared: Sequence[Comparison], runs: pd.DataFrame) -> pd.DataFrame:
    """The same with p-values for what is declared: of a two-sided sign-flip permutation test of the mean (`p`;
    `p_holm`: corrected over all that are declared; `p_least`: what the smallest of them can be, corrected), and of a
    log-rank test of the steps, which does not pair (likewise corrected). None where so few seeds could not bring it
    below `ALPHA` after correction."""
    table = table.assign(**dict.fromkeys(DECIDED, np.nan)).assign(declared=0)
    for one in declared:
        same = (table["first"] == one.first) & (table["second"] == one.second) & (table["measure"] == one.of)
        for at, row in table[same].iterrows():
            found = differences_by_seed(pivot_by_seed(one.of, runs, row["budget"]), one.first, one.second)
            table.loc[at, "declared"] = 1
            table.loc[at, "seeds_needed"] = seeds_needed(found, ALPHA / len(declared))
            if (least := len(declared) * smallest_p(row["seeds"])) >= ALPHA:
                continue
            table.loc[at, "p_least"] = least
            table.loc[at, "p"] = sign_flip_p(found)
            if one.of == "restricted_steps":
                table.loc[at, "p_log_rank"] = log_rank_p(runs, one.first, one.second, row["budget"])
    of_steps = [one for one in declared if one.of == "restricted_steps"]
    for p, family in (("p", declared), ("p_log_rank", of_steps)):
        known = table.index[table[p].notna()]
        if len(known):  # what too few seeds cannot decide was asked all the same
            asked = [*table.loc[known, p], *[1.0] * (len(family) - len(known))]
            table.loc[known, f"{p}_holm"] = multipletests(asked, method="holm")[1][: len(known)]
    return table


def _row(measure: str, first: Ablation, second: Ablation, scored: pd.DataFrame) -> dict[str, object]:
    found = differences_by_seed(scored, first.name, second.name)
    if not len(found):
        return {"seeds": 0}
    said = (measure, first.name, second.name, _budget(first, second), len(found), *mean_with_interval(found))
    return dict(zip(COLUMNS, said, strict=True))


def pivot_by_seed(measure: str, table: pd.DataFrame, budget: int) -> pd.DataFrame:
    """Return the values of `measure`: a row per seed, a column per ablation; NaN where an ablation has none.

    Args:
        table: a row per (ablation, seed).
        budget: the most steps that count, for `restricted_steps`.
    """
    values = {
        "restricted_steps": lambda runs: survival.restricted_steps(runs, budget),
        "test_exact_match": tables.test_exact_match,
    }.get(measure, lambda rows: rows[measure])
    scored = table.assign(value=values(table).astype(float))
    return scored.pivot(index="seed", columns="ablation", values="value").sort_index()


def differences_by_seed(scored: pd.DataFrame, first: str, second: str) -> np.ndarray:
    """First less second of the `scores`, by seed; what is missing in either is left out."""
    if not {first, second} <= set(scored):
        return np.empty(0)
    differences = scored[first].to_numpy() - scored[second].to_numpy()
    return differences[~np.isnan(differences)]


def _states(results: TaskResults) -> Mapping[str, pd.DataFrame]:
    """What is compared of the states: a row per member and depth."""
    ranks, margins = results.measurement("effective_rank"), results.measurement("own_token")
    probed = results.measurement("position_probe")
    found = {
        "effective_rank": before_training(ranks) if len(ranks) else ranks,
        "margin": after_training(margins) if len(margins) else margins,
        "position_r2": after_training(select_rows(probed, POSITION)).rename(columns={"r2": "position_r2"})
        if len(probed)
        else probed,
    }
    return {name: rows for name, rows in found.items() if len(rows)}


def encoding_pairs(results: TaskResults) -> Sequence[Pair]:
    """Causal ablations without positional encoding, each with every one that has one and is otherwise the same."""
    causal = results.usual_ablations(attention="causal")
    bare = switches.ablations_with(causal, positional="none")
    return [(ablation, other) for ablation in bare for other in causal if other not in bare]


def reference_pairs(results: TaskResults) -> Sequence[Pair]:
    """Every way to tell the positions, against positional encoding with a causal mask (learned, where there is)."""
    every = results.usual_ablations()
    reference = sorted(
        (
            ablation
            for ablation in every
            if ablation.model.attention == "causal" and ablation.model.positional != "none"
        ),
        key=lambda ablation: ablation.model.positional != "learned",
    )
    return [(ablation, reference[0]) for ablation in every if ablation != reference[0]] if reference else []


def intact_pairs(ablations: Sequence[Ablation]) -> Sequence[Pair]:
    """Each ablation that lacks residual connections with the same ablation that has them all."""
    return [
        (ablation, whole)
        for ablation in ablations
        if not switches.is_intact(ablation) and (whole := switches.intact_counterpart(ablations, ablation))
    ]


def single_layer_pairs(ablations: Sequence[Ablation]) -> Sequence[Pair]:
    """Those of `wholes` that lack both connections of a single layer, the first first: of the causal decoder without
    positional encoding that is otherwise as most ablations are."""
    usual = switches.ablations_with(
        ablations, **(switches.common_values(ablations) | {"positional": "none", "attention": "causal"})
    )
    found = [
        (ablation, whole)
        for ablation, whole in intact_pairs(ablations)
        if whole in usual
        and switches.lacks_residuals(ablation)
        and ablation.model.residual_free.attention == ablation.model.residual_free.mlp
        and len(ablation.model.residual_free.layers) == 1
    ]
    return sorted(found, key=lambda pair: pair[0].model.residual_free.layers)


def optimizer_pairs(ablations: Sequence[Ablation]) -> Sequence[Pair]:
    """Ablations with Muon, each with the same ablation under another optimizer."""
    muon = switches.ablations_with(ablations, optimizer="muon")
    others = sorted({ablation.training.optimizer for ablation in ablations} - {"muon"})
    return [
        (ablation, other)
        for ablation in muon
        for name in others
        for other in switches.ablations_like(ablations, ablation, optimizer=name)
    ]


def comparison_depth(ablation: Ablation) -> int:
    """After the last layer that lacks a residual connection; after the last of all where none does."""
    return 1 + max(ablation.model.residual_free.layers, default=ablation.model.layers - 1)


def seeds_needed(differences: np.ndarray, alpha: float) -> float:
    """Fresh seeds with which the sign-flip test at `alpha` sees the mean difference, were it true, with probability
    `POWER`; NaN where that takes more than `MOST_SEEDS`, or one seed says nothing of the spread."""
    if len(differences) < 2 or not (spread := differences.std(ddof=1)):
        return np.nan
    seeds = range(2, MOST_SEEDS + 1)
    effect = abs(differences.mean()) / spread
    return next((float(n) for n in seeds if smallest_p(n) <= alpha and power(effect, n, alpha) >= POWER), np.nan)


def power(effect: float, seeds: int, alpha: float) -> float:
    """How likely the sign-flip test is to see a mean difference of `effect` standard deviations, normally distributed:
    simulated while all flips can be tried, then that of the t test, which is nearly the same."""
    if seeds > EXACT:
        return float(TTestPower().power(effect, seeds, alpha))
    flips = np.array(list(product((1.0, -1.0), repeat=seeds - 1)))  # the other half mirrors these
    drawn = np.random.default_rng(0).normal(effect, 1.0, (SIMULATED, seeds))
    means = np.abs(drawn[:, 1:] @ flips.T + drawn[:, :1])
    return float((np.mean(means >= means[:, :1] - 1e-9, axis=1) <= alpha).mean())


def smallest_p(seeds: int) -> float:
    """The smallest p-value that a two-sided sign-flip test of so many pairs can give."""
    return 2.0 ** (1 - seeds)


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p-value of the mean: exact up to `EXACT` seeds, then from 9,999 random flips (always the same ones)."""
    if not differences.any():
        return 1.0
    result = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=9_999, rng=np.random.default_rng(0)
    )
    return float(result.pvalue)


def log_rank_p(runs: pd.DataFrame, first: str, second: str, budget: int) -> float:
    """p-value of a log-rank test of the steps to converge up to `budget`; 1 where no run of either converged."""
    both = runs[runs["ablation"].isin([first, second])]
    converged = both["steps_to_converge"].astype(float) <= budget
    if not converged.any():
        return 1.0
    return float(survdiff(survival.restricted_steps(both, budget), converged.astype(int), both["ablation"])[1])
