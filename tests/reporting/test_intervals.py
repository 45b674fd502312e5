"""Intervals hold what they estimate, and equal the textbook's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.reporting.intervals import bootstrap_intervals, exact_interval, exceeds


@given(trials=st.integers(1, 200), data=st.data())
def test_the_exact_interval_holds_the_estimate(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    low, high = exact_interval(successes, trials)
    assert 0.0 <= low <= successes / trials <= high <= 1.0


def test_three_of_three_is_the_textbooks() -> None:
    low, high = exact_interval(3, 3)
    assert low == pytest.approx(0.025 ** (1 / 3))
    assert high == 1.0
    assert exact_interval(0, 0) == (0.0, 1.0)


def test_exceeding_is_judged_one_sided() -> None:
    assert exceeds(0, 100, 0.05) == 1.0
    assert exceeds(0, 0, 0.05) == 1.0
    assert exceeds(3, 3, 0.05) == pytest.approx(0.05**3)
    assert exceeds(5, 100, 0.05) > 0.5


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_the_bootstrap_intervals_holds_the_mean_and_is_the_same_every_time(values: list[float]) -> None:
    low, high = bootstrap_intervals([values])[0]
    assert low - 1e-9 <= sum(values) / len(values) <= high + 1e-9
    assert bootstrap_intervals([values])[0].tolist() == [low, high]


@pytest.mark.parametrize("size", [3, 8, 20])
def test_the_bootstrap_intervals_are_scipys_but_for_the_draw(size: int) -> None:
    values = np.random.default_rng(1).exponential(size=(600, size))  # more than are resampled at once
    expected = stats.bootstrap(
        (values,), np.mean, axis=-1, method="percentile", batch=100, rng=np.random.default_rng(2)
    ).confidence_interval
    found = (bootstrap_intervals(values.tolist()).T - (expected.low, expected.high)) / values.std(1)
    assert np.abs(found).max() < 0.1
    assert np.abs(found.mean(1)).max() < 0.01


def test_groups_of_several_sizes_have_each_its_own_interval() -> None:
    groups = [[0.0, 1.0, 4.0], [2.0], [5.0, 7.0], [1.0, 1.0, 1.0]]
    assert bootstrap_intervals(groups).tolist() == [bootstrap_intervals([group])[0].tolist() for group in groups]
    assert bootstrap_intervals(groups)[1].tolist() == [2.0, 2.0]
