"""Tests of differences promise no more than they keep: exact, uniform where nothing differs, and powerful enough."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.reporting import permutation
from pipeline.reporting.estimates import DECIDED_LEVEL
from pipeline.reporting.permutation import permutation_p_value

STEPS = st.lists(st.integers(20, 60).map(lambda evaluation: 25.0 * evaluation), min_size=1, max_size=5)


@given(first=STEPS, second=STEPS)
def test_p_is_the_share_of_all_splits_that_differ_at_least_as_much(first: list[float], second: list[float]) -> None:
    values, size = np.array([*first, *second]), len(first)
    splits = [np.isin(np.arange(len(values)), chosen) for chosen in combinations(range(len(values)), size)]
    differences = np.abs([values[split].mean() - values[~split].mean() for split in splits])
    expected = (differences >= abs(np.mean(first) - np.mean(second)) - 1e-9).mean()
    p = permutation_p_value(np.array(first), np.array(second))
    assert p == pytest.approx(expected)
    assert permutation.smallest_p_value(size, len(second)) - 1e-12 <= p <= 1.0
    assert permutation_p_value(np.array(second), np.array(first)) == pytest.approx(p)
    assert permutation_p_value(-3 * np.array(first) + 7, -3 * np.array(second) + 7) == pytest.approx(p)


def test_random_splits_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(0, 1, 12), generator.normal(1, 1, 12)
    exact = permutation_p_value(first, second)
    monkeypatch.setattr(permutation, "MAX_SPLITS", 1000)
    drawn = permutation_p_value(first, second)
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact / permutation.DRAW_COUNT))
    assert permutation_p_value(first, second) == drawn


def censored_steps(generator: np.random.Generator, n: int = 8) -> np.ndarray:
    """Steps of an ablation some of whose runs do not converge within 1,600, in evaluations of 25."""
    return np.minimum(25 * np.ceil(generator.lognormal(np.log(1100), 0.35, n) / 25), 1600.0)


def test_two_ablations_of_equal_truth_give_p_uniform() -> None:
    """So that p below any bound is no likelier than the bound."""
    generator = np.random.default_rng(0)
    p_values = [permutation_p_value(censored_steps(generator), censored_steps(generator)) for _ in range(400)]
    for bound in (0.05, 0.1, 0.2, 0.5):
        assert stats.binomtest(sum(p <= bound for p in p_values), 400, bound, alternative="greater").pvalue > 0.01
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


@given(differences=st.lists(st.integers(-20, 20), min_size=1, max_size=8))
def test_flipping_all_signs_changes_no_p(differences: list[int]) -> None:
    values = np.array(differences, float)
    p = permutation.sign_flip_p_value(values)
    assert p == pytest.approx(permutation.sign_flip_p_value(-values))
    assert p >= 2.0 ** (1 - len(values)) - 1e-12


def test_log_rank_sees_no_difference_where_no_run_converged() -> None:
    steps = pd.Series([100.0, 100.0])
    assert permutation.log_rank_p_value(steps, steps, 100) == 1.0
    assert permutation.log_rank_p_value(pd.Series(np.arange(1.0, 9.0)), pd.Series(np.arange(50.0, 58.0)), 100) < 0.01


@pytest.mark.parametrize("effect", [1.0, 1.6, 2.5])
def test_as_many_runs_as_are_asked_for_detect_the_difference(effect: float) -> None:
    """At effects like those seen, corrected for six comparisons; a few runs less do not."""
    level, generator = DECIDED_LEVEL / 6, np.random.default_rng(3)
    scale = np.linspace(-1, 1, 8) / np.linspace(-1, 1, 8).std(ddof=1)
    needed = int(permutation.runs_needed(scale + effect, scale, level))

    def power(n: int) -> float:
        pairs = [(generator.normal(effect, 1, n), generator.normal(0, 1, n)) for _ in range(300)]
        return float(np.mean([permutation_p_value(*pair) <= level for pair in pairs]))

    assert power(needed) == pytest.approx(permutation.TARGET_POWER, abs=0.08)
    assert power(max(2, needed * 2 // 3)) < permutation.TARGET_POWER


def test_no_number_of_runs_is_given_where_none_would_do_or_nothing_varies() -> None:
    values = np.linspace(-1, 1, 8)
    assert np.isnan(permutation.runs_needed(values, values, 0.05))
    assert np.isnan(permutation.runs_needed(np.ones(8), np.zeros(8), 0.05))
    assert np.isnan(permutation.runs_needed(np.ones(1), np.zeros(1), 0.05))
