"""Contrasts pair ablations that differ in one switch, seed by seed, and their p-values keep what they promise."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline import switches
from pipeline.params import Comparison
from pipeline.reporting import contrasts
from pipeline.reporting.estimates import DECIDED_LEVEL, Estimates
from pipeline.reporting.intervals import exact_share_interval, interval_of_mean
from pipeline.reporting.results import Results
from tests.reporting.experiment import ABLATIONS, SCORES, estimates_of, find, made_up

BUDGET = 1600
SHARES = st.lists(st.integers(0, 2000).map(lambda right: right / 2000), min_size=3, max_size=3)


def test_exactly_the_pairs_that_differ_in_one_switch_are_compared() -> None:
    ablations = made_up(SCORES).all_ablations()
    pairs = contrasts.contrast_pairs(ablations, [])
    compared = {frozenset((first.name, second.name)) for first, second in pairs}
    assert len(compared) == len(pairs)
    for index, one in enumerate(ablations):
        for other in ablations[index + 1 :]:
            differing = [switch.field for switch in switches.SWITCHES if switch.value_of(one) != switch.value_of(other)]
            if switches.is_intact(one) or switches.is_intact(other):  # an intact network has nothing to substitute
                differing = [field for field in differing if field != "residual_substitute"]
            assert (frozenset((one.name, other.name)) in compared) == (len(differing) == 1)
    names = [(first.name, second.name) for first, second in pairs]
    assert ("nope-causal", "learned-causal") in names
    assert ("forward-0", "no-residual-0") in names
    assert ("nope-causal-1-layer", "nope-causal") in names


def test_other_settings_and_other_tasks_forbid_a_comparison_unless_it_is_declared() -> None:
    params = made_up({"nope-causal": [1.0], "learned-causal": [1.0]}, declared=[])
    params.ablations["nope-causal"].training["learning_rate"] = 0.5
    assert contrasts.contrast_pairs(params.all_ablations(), []) == []
    declared = [Comparison(first="learned-causal", second="nope-causal")]
    assert len(contrasts.contrast_pairs(params.all_ablations(), declared)) == 1


def test_differences_are_taken_over_the_seeds_that_both_have() -> None:
    estimates = estimates_of({"nope-causal": [0.9, 0.8, 0.7], "learned-causal": [0.8, 0.7]}, declared=[])
    difference = find(estimates, "test_exact_match", "nope-causal", versus="learned-causal")
    assert [difference.row[name] for name in ("value", "low", "high", "n")] == pytest.approx([0.1, 0.1, 0.1, 2])
    assert difference.p is None
    assert pd.isna(difference.row["p"])


@given(first=SHARES, second=SHARES)
def test_swapping_two_ablations_changes_the_sign_of_the_difference_alone(
    first: list[float], second: list[float]
) -> None:
    differences = np.array(first) - np.array(second)
    assert contrasts.sign_flip_p_value(differences) == pytest.approx(contrasts.sign_flip_p_value(-differences))
    assert contrasts.sign_flip_p_value(differences) >= contrasts.smallest_p_value(3) - 1e-12


def test_a_bound_says_in_which_direction_the_censored_runs_move_the_difference() -> None:
    scores = {"nope-causal": [1.0, 1.0, 0.5], "learned-causal": [1.0, 1.0, 1.0], "null": [1.0, 1.0, 0.5]}
    estimates = estimates_of(scores, declared=[])
    first = find(estimates, "restricted_steps", "nope-causal", versus="learned-causal")
    both = find(estimates, "restricted_steps", "nope-causal", versus="null")
    assert str(first).startswith("at least")
    assert str(first.negated()).startswith("at most")
    assert first.negated().negated().row == first.row
    assert str(both).startswith("up to the budget")


def test_a_declared_comparison_is_reported_even_where_no_run_converged() -> None:
    """Other comparisons, whose difference would be 0, are left out."""
    scores = {"nope-causal": [0.5] * 3, "learned-causal": [0.4] * 3, "null": [0.3] * 3}
    rows = estimates_of(scores).select("restricted_steps")
    assert rows.loc[rows["versus"] != "", ["ablation", "versus", "value"]].to_numpy().tolist() == [
        ["nope-causal", "learned-causal", 0]
    ]


def test_states_are_compared_with_those_of_the_intact_ablation(results: Results, estimates: Estimates) -> None:
    by_name = {ablation.name: ablation for ablation in results.ablations}
    rows = estimates.select("effective_rank")
    rows = rows[rows["versus"] != ""]
    assert set(rows["ablation"]) == {name for name, ablation in by_name.items() if not switches.is_intact(ablation)}
    for first, second in rows[["ablation", "versus"]].to_numpy():
        assert switches.is_intact(by_name[second])
        assert by_name[first].model.positional == by_name[second].model.positional


def test_a_substitute_as_good_as_the_connection_gives_back_everything_and_none_nothing() -> None:
    scores = {"nope-causal": [1.0] * 3, "no-residual-0": [0.5] * 3, "forward-0": [1.0] * 3}
    rescue = find(estimates_of(scores, declared=[]), "rescue", "forward-0")
    assert rescue.value == 1
    nothing = find(estimates_of({**scores, "forward-0": [0.5] * 3}, declared=[]), "rescue", "forward-0")
    assert nothing.value == 0
    assert set(ABLATIONS) >= set(scores)


# What the statistics promise, seen in simulation.


def times(generator: np.random.Generator, n: int = 8) -> np.ndarray:
    """Steps to converge of an ablation some of whose runs do not within the budget, in evaluations of 25."""
    return np.minimum(25 * np.ceil(generator.lognormal(np.log(1100), 0.35, n) / 25), BUDGET)


def test_two_ablations_of_equal_truth_give_p_uniform() -> None:
    """So that p below any bound is no likelier than the bound."""
    generator = np.random.default_rng(0)
    p_values = [contrasts.sign_flip_p_value(times(generator) - times(generator)) for _ in range(400)]
    for bound in (0.05, 0.1, 0.2, 0.5):
        assert stats.binomtest(sum(p <= bound for p in p_values), 400, bound, alternative="greater").pvalue > 0.01
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("n", [3, 8])
def test_t_intervals_cover_the_restricted_mean_and_its_differences(n: int) -> None:
    generator = np.random.default_rng(1)
    truth = times(generator, 200_000).mean()
    restricted = times(generator, 2000 * n).reshape(-1, n)
    low, high = interval_of_mean(restricted.mean(1), restricted.std(1, ddof=1), np.full(2000, n))
    assert ((low <= truth) & (truth <= high)).mean() >= 0.9
    paired = restricted[::2] - restricted[1::2]
    low, high = interval_of_mean(paired.mean(1), paired.std(1, ddof=1), np.full(1000, n))
    assert ((low <= 0) & (high >= 0)).mean() >= 0.9


@pytest.mark.parametrize("n", [3, 8])
@pytest.mark.parametrize("truth", [0.05, 0.5, 0.9])
def test_intervals_of_shares_cover(n: int, truth: float) -> None:
    chances = stats.binom(n, truth).pmf(np.arange(n + 1))
    covered = [low <= truth <= high for low, high in (exact_share_interval(k, n) for k in range(n + 1))]
    assert chances[covered].sum() >= 0.95


def corrected(seeds: Sequence[int], declared: int, p: float | None = None) -> pd.DataFrame:
    """Declared comparisons with so many seeds each, of which all go the same way unless `p` is given."""
    comparisons = [Comparison(first=f"a{index}", second="b") for index in range(declared)]
    rows = [
        {"quantity": quantity, "n": n, "p": contrasts.smallest_p_value(n) if p is None else p, "p_corrected": np.nan}
        for quantity in ("restricted_steps", "log_rank")
        for n in seeds
    ]
    described = {"quantity": "test_exact_match", "n": 8, "p": np.nan, "p_corrected": np.nan}
    table = pd.DataFrame([*rows, described]).astype({"n": "Int64"})
    return contrasts.correct_p_values(table, comparisons)


@pytest.mark.parametrize(
    ("seeds", "count", "decided"),
    [(8, 1, True), (8, 6, True), (8, 7, False), (5, 1, False), (6, 1, True), (3, 1, False)],
)
def test_no_p_value_where_it_could_not_decide(seeds: int, count: int, decided: bool) -> None:
    steps = corrected([seeds] * count, count).query("quantity == 'restricted_steps'")
    assert steps["p"].notna().all() == decided
    assert (steps["p_corrected"] < DECIDED_LEVEL).all() == decided


def test_only_what_is_declared_is_decided_and_holm_counts_all_of_it() -> None:
    table = corrected([8] * 4, 4)
    assert table.iloc[-1][["p", "p_corrected"]].isna().all()
    steps = table.query("quantity == 'restricted_steps'")
    assert steps["p"].tolist() == [pytest.approx(2**-7)] * 4
    assert steps["p_corrected"].tolist() == [pytest.approx(4 * 2**-7)] * 4
    few = corrected([3, 3, 3, 8], 4).query("quantity == 'restricted_steps'")
    assert few["p_corrected"].isna().tolist() == [True, True, True, False]
    assert few["p_corrected"].iloc[3] == pytest.approx(4 * 2**-7)


def test_seeds_that_are_asked_for_are_enough_for_the_test_that_decides() -> None:
    """Not for another one, which could say more with few seeds."""
    alpha, effect = DECIDED_LEVEL / 6, 1.66
    drawn = np.random.default_rng(3)
    seen = np.mean([contrasts.sign_flip_p_value(drawn.normal(effect, 1, 8)) <= alpha for _ in range(400)])
    assert contrasts.sign_flip_power(effect, 8, alpha) == pytest.approx(seen, abs=0.08)
    assert seen < contrasts.TARGET_POWER
    for spread in (0.1, 0.5, 1.0):
        seeds = contrasts.seeds_needed(1.0 + spread * np.linspace(-1, 1, 8), alpha)
        assert contrasts.smallest_p_value(int(seeds)) <= alpha
    assert np.isnan(contrasts.seeds_needed(np.linspace(-1, 1, 8), alpha))
