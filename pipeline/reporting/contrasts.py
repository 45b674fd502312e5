"""Contrasts: differences between two ablations, seed by seed, and the p-values of those that `params.yaml` declares.

Every pair of ablations of a task that differ in exactly one switch is compared.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.duration.survfunc import survdiff
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from pipeline import switches
from pipeline.params import Ablation, Comparison, comparable_quantities
from pipeline.reporting.estimates import DECIDED_LEVEL, Row, estimate, statistic
from pipeline.reporting.intervals import summarise_mean, summarise_ratio
from pipeline.reporting.outcomes import exact_match_scores, is_proved_impossible
from pipeline.reporting.results import Results, restricted_steps
from pipeline.reporting.wording import Unit

UNITS: dict[str, Unit] = {"restricted_steps": "steps", "test_exact_match": "points", "test_bits": "bits"}
"""Quantity in which ablations are compared -> unit of the difference."""
TARGET_POWER = 0.8
"""Probability with which the number of seeds in the estimate `seeds_needed` detects the observed difference."""
MAX_SEEDS_NEEDED = 200
"""Largest number of seeds that `seeds_needed` tries; if a comparison needs more, the result is NaN."""
BOUNDS: dict[tuple[bool, ...], str] = {
    (True, False): "; at least",
    (False, True): "; at most",
    (True, True): "; up to the budget",
}
"""Whether runs of the first and of the second ablation are censored -> words about the mean difference of the steps."""
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


@statistic(*UNITS, "steps_ratio", "log_rank", *(f"seeds_needed_{quantity}" for quantity in UNITS))
def differences(results: Results) -> Iterator[Row]:
    """Yield the mean difference of each pair in steps and in the test score; with p if the comparison is declared.

    Steps count up to the smaller of the two budgets. Those of an undeclared pair are left out if no run converged in
    it, or if one of the two cannot converge by proof.
    """
    declared = {(comparison.first, comparison.second, comparison.quantity) for comparison in results.comparisons}
    for first, second in contrast_pairs(results.ablations, results.comparisons):
        is_impossible = is_proved_impossible(results, first) or is_proved_impossible(results, second)
        budget = min(first.training.steps, second.training.steps)
        columns = {"versus": second.name, "budget": budget}
        for quantity in comparable_quantities(first, second):
            is_declared, is_steps = (first.name, second.name, quantity) in declared, quantity == "restricted_steps"
            values = paired_values(results, (first, second), quantity, budget)
            nothing_to_see = is_steps and (is_impossible or not (values < budget).any(axis=None))
            if values.empty or (nothing_to_see and not is_declared):
                continue
            by_seed = values[first.name] - values[second.name]
            summary = summarise_mean(by_seed)
            if is_steps:
                summary["method"] += BOUNDS.get(tuple((values >= budget).any()), "")
                if first.model.positional != second.model.positional:
                    ratio = summarise_ratio(values[first.name], values[second.name])
                    yield estimate(first, "steps_ratio", ratio, "ratio", **columns)
            p = sign_flip_p_value(by_seed.to_numpy()) if is_declared else np.nan
            yield estimate(first, quantity, {**summary, "p": p}, UNITS[quantity], **columns)
            if is_declared:
                seeds = seeds_needed(by_seed.to_numpy(), DECIDED_LEVEL / len(results.comparisons))
                yield estimate(first, f"seeds_needed_{quantity}", seeds, "count", **columns)
            if is_declared and is_steps:
                tested = {"p": log_rank_p_value(results.runs, first.name, second.name, budget), "n": len(by_seed)}
                yield estimate(first, "log_rank", np.nan, "steps", method="log-rank", **tested, **columns)


def paired_values(results: Results, ablations: Sequence[Ablation], quantity: str, budget: int = 0) -> pd.DataFrame:
    """Return a quantity of some ablations: a column by name for each, a row for each seed of which all have a value."""
    columns = {}
    for ablation in ablations:
        runs = results.runs_of(ablation).set_index("seed").sort_index()
        if quantity == "restricted_steps":
            columns[ablation.name] = restricted_steps(runs, budget)
        else:
            columns[ablation.name] = exact_match_scores(runs) if quantity == "test_exact_match" else runs[quantity]
    return pd.DataFrame(columns).astype(float).dropna()


def substitutions(ablations: Sequence[Ablation]) -> Iterator[tuple[Ablation, Ablation, Ablation]]:
    """Yield each ablation with a substitute for missing connections, with those without the connections and intact."""
    for ablation in ablations:
        without = switches.find_variant(ablations, ablation, residual_substitute="none")
        intact = switches.find_intact_counterpart(ablations, ablation)
        is_substituted = ablation.model.residual_substitute != "none" and not switches.is_intact(ablation)
        if is_substituted and without and intact:
            yield ablation, without, intact


@statistic("rescue")
def rescues(results: Results) -> Iterator[Row]:
    """Yield the share of a connection's benefit that each substitute gives back: a ratio of saved steps, by seed.

    Both are compared with the ablation without the connection, up to the smallest budget of the three. The interval is
    missing if the intact ablation does not differ significantly from the one without the connection.
    """
    for compared in substitutions(results.ablations):
        substituted, plain, intact = (ablation.name for ablation in compared)
        budget = min(ablation.training.steps for ablation in compared)
        if len(steps := paired_values(results, compared, "restricted_steps", budget)):
            ratio = summarise_ratio(steps[plain] - steps[substituted], steps[plain] - steps[intact])
            key = f"plain={plain};intact={intact}"
            yield estimate(compared[0], "rescue", ratio, "ratio", key=key, budget=budget)


@statistic("order_value")
def order_values(results: Results) -> Iterator[Row]:
    """Yield how many more bits per token an ablation takes on shuffled data than on the data in order, by seed."""
    for ordered, shuffled in product(results.ablations, repeat=2):
        same_settings = (ordered.model, ordered.training) == (shuffled.model, shuffled.training)
        is_shuffled = shuffled.task != ordered.task and shuffled.task.unshuffled == ordered.task
        if not (same_settings and is_shuffled):
            continue
        if len(bits := paired_values(results, (shuffled, ordered), "test_bits")):
            worth = summarise_mean(bits[shuffled.name] - bits[ordered.name])
            yield estimate(ordered, "order_value", worth, "bits", key=f"shuffled={shuffled.name}")


def correct_p_values(estimates: pd.DataFrame, declared: Sequence[Comparison]) -> pd.DataFrame:
    """Return the table of estimates with Holm's correction over the declared comparisons in `p_corrected`.

    A comparison with too few seeds ever to be decided gets no p-value, but counts in the correction.
    """
    of_steps = [comparison for comparison in declared if comparison.quantity == "restricted_steps"]
    for quantities, family in ((list(UNITS), declared), (["log_rank"], of_steps)):
        tested = estimates["quantity"].isin(quantities) & estimates["p"].notna()
        smallest = estimates["n"].map(smallest_p_value, na_action="ignore").fillna(1.0)
        can_decide = smallest * len(declared) < DECIDED_LEVEL
        estimates.loc[tested & ~can_decide, "p"] = np.nan
        index = estimates.index[tested & can_decide]
        if len(index):
            p_values = [*estimates.loc[index, "p"], *[1.0] * (len(family) - len(index))]
            estimates.loc[index, "p_corrected"] = multipletests(p_values, method="holm")[1][: len(index)]
    return estimates


def seeds_needed(differences: np.ndarray, significance_level: float) -> float:
    """Return how many new seeds would detect a mean difference as large as the observed one, by the sign-flip test.

    They detect it with probability `TARGET_POWER`. NaN if more than `MAX_SEEDS_NEEDED` are needed, if only one seed was
    observed, or if all differences are equal.
    """
    if len(differences) < 2 or not (spread := differences.std(ddof=1)):
        return np.nan
    effect = abs(differences.mean()) / spread
    for n in range(2, MAX_SEEDS_NEEDED + 1):
        can_decide = smallest_p_value(n) <= significance_level
        if can_decide and sign_flip_power(effect, n, significance_level) >= TARGET_POWER:
            return float(n)
    return np.nan


def sign_flip_power(effect_size: float, seed_count: int, significance_level: float) -> float:
    """Return the probability that the sign-flip test detects a normal mean difference of `effect` standard deviations.

    Up to 13 seeds, it is the power in 1,000 random experiments; for more, that of the t test, which is nearly the same.
    """
    if seed_count > 13:
        return float(TTestPower().power(effect_size, seed_count, significance_level))
    flips = np.array(list(product((1.0, -1.0), repeat=seed_count - 1)))  # the other half has the same absolute means
    samples = np.random.default_rng(0).normal(effect_size, 1.0, (1000, seed_count))
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
    options = {"permutation_type": "samples", "n_resamples": 9_999, "rng": np.random.default_rng(0)}
    return float(stats.permutation_test((differences,), np.mean, **options).pvalue)


def log_rank_p_value(runs: pd.DataFrame, first: str, second: str, budget: int) -> float:
    """Return the p-value of a log-rank test of two ablations' steps to converge up to `budget`; 1 if none converged."""
    both = runs[runs["ablation"].isin([first, second])]
    converged = both["steps_to_converge"].astype(float) <= budget
    if not converged.any():
        return 1.0
    return float(survdiff(restricted_steps(both, budget), converged.astype(int), both["ablation"])[1])
