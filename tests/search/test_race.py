"""The race of seeds, the map and the effects: laws, and how often simulated searches are right."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.search import race
from pipeline.search.effects import areas_of_common_rungs, joint_removal_cost, removal_cost
from pipeline.tasks.registry import read_params

PROJECT = Path(__file__).parent.parent.parent
SHARE = 0.75
NAMES = [f"residual_free_{sublayer}_{layer}" for layer in (0, 1) for sublayer in ("attention", "mlp")]
PATTERNS = {number: dict(zip(NAMES, bits, strict=True)) for number, bits in enumerate(product([False, True], repeat=4))}


@given(st.lists(st.integers(0, 99), min_size=1, max_size=40, unique=True))
def test_rungs_take_all_seeds_in_order_and_each_doubles_their_number(seeds: list[int]) -> None:
    rungs = race.split_into_rungs(seeds)
    assert [seed for rung in rungs for seed in rung] == seeds
    ends = np.cumsum([len(rung) for rung in rungs])
    assert all(end == 2 ** (number + 1) for number, end in enumerate(ends[:-1]))


@given(st.integers(0, 16), st.integers(0, 16))
def test_more_converged_runs_never_speak_against_a_pattern(converged: int, failed: int) -> None:
    now, more, less = (
        race.probability_of_convergence(k, n, SHARE)
        for k, n in (
            (converged, converged + failed),
            (converged + 1, converged + failed + 1),
            (converged, converged + failed + 1),
        )
    )
    assert less <= now <= more


def test_two_failures_decide_against_and_eight_successes_for_a_pattern() -> None:
    assert race.decide(0, 2, SHARE) == "does not converge"
    assert [race.decide(n, n, SHARE) for n in (2, 4, 8)] == ["undecided", "undecided", "converges"]


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1)), min_size=1, max_size=8))
def test_the_fewest_connections_are_those_of_a_simulated_draw(patterns: list[tuple[int, float]]) -> None:
    """The probability of the answer equals its share among all outcomes of independent patterns."""
    fewest = race.find_fewest_connections(pd.DataFrame(patterns, columns=["residuals_kept", "probability"]))
    shares: dict[float, float] = {}
    for outcome in product([False, True], repeat=len(patterns)):
        weights = [p if converges else 1 - p for converges, (_, p) in zip(outcome, patterns, strict=True)]
        kept = [kept for converges, (kept, _) in zip(outcome, patterns, strict=True) if converges]
        shares[min(kept, default=-1)] = shares.get(min(kept, default=-1), 0.0) + float(np.prod(weights))
    assert fewest["probability"] == pytest.approx(max(shares.values()), abs=1e-9)
    value = -1 if np.isnan(fewest["value"]) else fewest["value"]
    assert shares[value] == pytest.approx(fewest["probability"], abs=1e-9)
    assert np.isnan(fewest["low"]) or np.isnan(fewest["high"]) or fewest["low"] <= fewest["high"]


def draw_areas(generator: np.random.Generator, effects: dict[str, float], runs: int = 2) -> dict[int, list[float]]:
    """Areas of the runs of all two-layer patterns, with these costs of missing connections."""
    means = {n: 800 + sum(cost for name, cost in effects.items() if pattern[name]) for n, pattern in PATTERNS.items()}
    scales = {n: generator.choice([20.0, 150.0]) for n in PATTERNS}
    return {n: list(generator.normal(means[n], scales[n], runs)) for n in PATTERNS}


def test_an_effect_without_scatter_is_the_difference_of_the_means() -> None:
    areas = {n: [800.0 + 300 * p[NAMES[0]] + 50 * p[NAMES[0]] * p[NAMES[1]]] * 2 for n, p in PATTERNS.items()}
    costs = [removal_cost(areas, PATTERNS, name) for name in NAMES]
    assert [round(cost["value"], 9) for cost in costs if cost] == [325, 25, 0, 0]
    assert joint_removal_cost(areas, PATTERNS, (NAMES[0], NAMES[1]))["value"] == pytest.approx(50)
    assert removal_cost(areas, {0: PATTERNS[0]}, NAMES[0]) is None


def test_runs_count_in_effects_only_if_their_rung_was_run_for_all_patterns() -> None:
    rungs = {0: [0, 0, 1, 1, 2], 1: [0, 0, 1, 1]}
    rows = [{"trial": trial, "rung": rung, "area": float(rung)} for trial in rungs for rung in rungs[trial]]
    areas = areas_of_common_rungs(pd.DataFrame(rows))
    assert areas == {0: [0.0, 0.0, 1.0, 1.0], 1: [0.0, 0.0, 1.0, 1.0]}


def test_intervals_of_effects_cover_and_without_an_effect_few_tests_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.search.effects.PERMUTATIONS", 199)
    generator, covered, decided = np.random.default_rng(0), 0, 0
    for _ in range(300):
        areas = draw_areas(generator, {NAMES[0]: 300.0})
        known, none = removal_cost(areas, PATTERNS, NAMES[0]), removal_cost(areas, PATTERNS, NAMES[3])
        assert known is not None
        assert none is not None
        assert known["p"] <= 0.02
        covered += known["low"] <= 300 <= known["high"]
        decided += none["p"] <= 0.05
    assert covered >= 0.93 * 300
    assert decided <= 0.08 * 300


def simulate_answers(rates: np.ndarray, kept: np.ndarray) -> tuple[int, int]:
    """Of 200 searches of patterns with these rates of convergence: how many are decided, how many of these wrong."""
    search, generator = read_params(PROJECT / "params.yaml").search, np.random.default_rng(0)
    truth, decided, wrong = min(kept[rates >= search.converges_share]), 0, 0
    for _ in range(200):
        probabilities = []
        for rate in rates:
            converged = runs = 0
            for rung in race.split_into_rungs(search.seeds):
                converged, runs = converged + generator.binomial(len(rung), rate), runs + len(rung)
                if race.decide(converged, runs, search.converges_share) != "undecided":
                    break
            probabilities.append(race.probability_of_convergence(converged, runs, search.converges_share))
        answer = race.find_fewest_connections(pd.DataFrame({"residuals_kept": kept, "probability": probabilities}))
        if answer["probability"] >= race.MIN_SURE_OF_MAP:
            decided += 1
            wrong += int(answer["value"] != truth)
    return decided, wrong


def test_simulated_searches_with_the_rates_of_the_committed_trials_are_decided_and_seldom_wrong() -> None:
    trials = pd.read_csv(PROJECT / "reports" / "search" / "trials.csv")
    two_layers = trials[(trials["layers"] == 2) & (trials["state"] == "complete")]
    rates = (two_layers["converged"] + 0.5) / (two_layers["runs"] + 1)  # the mean of Jeffreys' posterior
    decided, wrong = simulate_answers(rates.to_numpy(), two_layers["residuals_kept"].to_numpy())
    assert decided >= 0.6 * 200
    assert wrong <= 0.05 * 200


@pytest.mark.parametrize("fewest", [1, 2, 3])
def test_simulated_searches_decide_where_rates_are_far_from_the_limit(fewest: int) -> None:
    kept = np.array([4 - sum(pattern.values()) for pattern in PATTERNS.values()])
    decided, wrong = simulate_answers(np.where(kept >= fewest, 0.95, 0.02), kept)
    assert decided >= 0.6 * 200
    assert wrong <= 0.05 * 200
