"""Intervals hold what they estimate, and equal the textbook's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import stats

from pipeline.reporting.intervals import (
    exact_share_interval,
    interval_of_mean,
    summarise_difference,
    summarise_mean,
    summarise_quotient,
    summarise_ratio,
    summarise_restricted_mean,
)


@given(trials=st.integers(1, 200), data=st.data())
def test_the_exact_interval_holds_the_estimate(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    low, high = exact_share_interval(successes, trials)
    assert 0.0 <= low <= successes / trials <= high <= 1.0


def test_three_of_three_is_the_textbooks() -> None:
    low, high = exact_share_interval(3, 3)
    assert low == pytest.approx(0.025 ** (1 / 3))
    assert high == 1.0


@given(values=st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_t_interval_is_scipys(values: list[float]) -> None:
    summary = summarise_mean(values)
    mean, low, high = summary["value"], summary["low"], summary["high"]
    assert low <= mean <= high
    if np.ptp(values) > 1e-6:
        assert (low, high) == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval())


def test_one_value_has_no_interval() -> None:
    summary = summarise_mean([0.5])
    assert summary["value"] == 0.5
    assert np.isnan([summary["low"], summary["high"]]).all()
    low, high = interval_of_mean(np.array([1.0, 2.0]), np.array([np.nan, 0.5]), np.array([1, 3]))
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False]


def ratio_with_interval(numerators: ArrayLike, denominators: ArrayLike) -> tuple[float, float, float]:
    summary = summarise_ratio(numerators, denominators)
    return summary["value"], summary["low"], summary["high"]


def test_a_ratio_of_means_is_covered_as_often_as_its_interval_says() -> None:
    """With eight pairs, as correlated as runs that share a reference are."""
    drawn = np.random.default_rng(0)
    shared, own, other = (drawn.normal(size=(2000, 8)) for _ in range(3))
    values, others = 300 + 150 * (shared + own), 500 + 150 * (shared + other)
    ratios = [ratio_with_interval(*pair) for pair in zip(values, others, strict=True)]
    ratios = [ratio for ratio in ratios if not np.isnan(ratio).any()]
    assert all(low <= ratio <= high for ratio, low, high in ratios)
    held = [low <= 0.6 <= high for _, low, high in ratios]
    assert len(held) > 1900
    assert 0.93 < np.mean(held) < 0.97


@given(seed=st.integers(0, 2**16), scale=st.floats(0.1, 10))
def test_the_interval_of_a_ratio_scales_and_turns_over(seed: int, scale: float) -> None:
    drawn = np.random.default_rng(seed)
    values, others = drawn.normal(5, 1, 8), drawn.normal(7, 1, 8)
    ratio, low, high = ratio_with_interval(values, others)
    assert ratio_with_interval(scale * values, others) == pytest.approx((scale * ratio, scale * low, scale * high))
    assert ratio_with_interval(others, values) == pytest.approx((1 / ratio, 1 / high, 1 / low))


def test_a_ratio_to_what_may_be_nothing_has_no_interval() -> None:
    ratio, *limits = ratio_with_interval([1.0, 2.0, 3.0], [-1.0, 0.5, 1.0])
    assert ratio == pytest.approx(12.0)
    assert np.isnan(limits).all()
    assert np.isnan(ratio_with_interval([1.0], [2.0])[1:]).all()
    assert np.isnan(ratio_with_interval([1.0, 2.0], [1.0, -1.0])).all()


BUDGET = 1300
SETTINGS = {
    "all converge, like the reference": (640, 0.05),
    "all converge, with more scatter": (900, 0.15),
    "about 13 % censored": (1100, 0.15),
    "about 40 % censored": (1250, 0.2),
    "about 65 % censored": (1400, 0.2),
    "about 80 % censored": (1500, 0.15),
}
"""Runs like ours -> median of the steps to converge, and scatter of their logarithm."""


def draw_steps(generator: np.random.Generator, setting: str, *shape: int) -> np.ndarray:
    median, scatter = SETTINGS[setting]
    return np.minimum(25 * np.ceil(median * np.exp(generator.normal(0, scatter, shape)) / 25), BUDGET)


@pytest.mark.parametrize("setting", SETTINGS)
def test_intervals_of_steps_cover_the_truth(setting: str) -> None:
    """At least 93 % of 2,000 intervals from eight runs: of the mean, of the difference from the reference, and of their
    quotient. (Where a rare run is censored and eight runs mostly show none, no interval covers.)"""
    generator, reference = np.random.default_rng(1), next(iter(SETTINGS))
    mean, reference_mean = (draw_steps(generator, name, 200_000).mean() for name in (setting, reference))
    covered = np.zeros(3)
    for first, second in zip(*(draw_steps(generator, name, 2000, 8) for name in (setting, reference)), strict=True):
        summaries = [summarise_restricted_mean(steps, BUDGET) for steps in (first, second)]
        compared = (summaries[0], summarise_difference(*summaries), summarise_quotient(*summaries))
        truths = (mean, mean - reference_mean, mean / reference_mean)
        covered += [each["low"] <= truth <= each["high"] for each, truth in zip(compared, truths, strict=True)]
    assert (covered / 2000 >= 0.93).all(), covered / 2000


@given(st.lists(st.integers(1, 52).map(lambda evaluation: 25.0 * evaluation), min_size=2, max_size=12))
def test_a_restricted_mean_and_its_interval_lie_within_the_budget(steps: list[float]) -> None:
    summary = summarise_restricted_mean(steps, BUDGET)
    assert summary["value"] == pytest.approx(np.mean(steps))
    assert ("at least" in summary["method"]) == (max(steps) == BUDGET)
    if max(steps) == BUDGET:
        assert 0 <= summary["low"] <= summary["value"] <= summary["high"] <= BUDGET
    else:
        assert summary == summarise_mean(steps)


@given(
    first=st.lists(st.floats(1, 9), min_size=2, max_size=6), second=st.lists(st.floats(1, 9), min_size=2, max_size=6)
)
def test_a_difference_and_its_negation_mirror_each_other(first: list[float], second: list[float]) -> None:
    one, other = summarise_mean(first), summarise_mean(second)
    difference, negation = summarise_difference(one, other), summarise_difference(other, one)
    assert difference["low"] <= difference["value"] <= difference["high"]
    assert (difference["low"], difference["high"]) == pytest.approx((-negation["high"], -negation["low"]))
    exact = summarise_difference(one, {**one, "value": 2.0, "low": 2.0, "high": 2.0})
    assert (exact["low"], exact["high"]) == pytest.approx((one["low"] - 2.0, one["high"] - 2.0))
