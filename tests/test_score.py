"""A threshold is decided on numbers of right answers, however the score was rounded."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.params.score import BITS, EXACT_MATCH

thresholds = st.integers(1, 10_000).map(lambda numerator: numerator / 10_000)


@pytest.mark.parametrize(
    ("threshold", "examples", "required"),
    [(0.9, 10, 9), (0.07, 100, 7), (0.55, 20, 11), (0.29, 100, 29), (0.991, 1000, 991), (0.5, 3, 2), (1e-9, 1000, 1)],
)
def test_a_threshold_is_computed_in_decimal(threshold: float, examples: int, required: int) -> None:
    """In floating point 0.55 * 20 is 11.000000000000002, and 0.29 * 100 is 28.999999999999996."""
    shares = [(required - 1) / examples, required / examples]
    assert EXACT_MATCH.reaches(shares, threshold, examples).tolist() == [False, True]


@given(threshold=thresholds, examples=st.integers(1, 100_000), data=st.data())
def test_exact_match_is_decided_on_counts(threshold: float, examples: int, data: st.DataObject) -> None:
    required = math.ceil(threshold * examples)
    right = data.draw(st.integers(max(0, required - 2), min(examples, required + 2)) | st.integers(0, examples))
    share = right / examples
    rounded = [share, float(np.float32(right) / np.float32(examples)), float(f"{share:.7g}")]
    reached = EXACT_MATCH.reaches(rounded, threshold, examples)
    assert reached.tolist() == [Fraction(right, examples) >= Fraction(str(threshold))] * 3


@given(threshold=thresholds, examples=st.integers(1, 100_000))
def test_no_right_answer_never_reaches_a_threshold_and_all_right_answers_always_do(
    threshold: float, examples: int
) -> None:
    assert EXACT_MATCH.reaches([np.nan, 0.0, 1.0], threshold, examples).tolist() == [False, False, True]


def test_bits_reach_a_threshold_from_above_and_never_one_that_is_not_given() -> None:
    assert BITS.reaches([np.nan, 0.9, 1.0, 1.1], 1.0, 10).tolist() == [False, True, True, False]
    assert BITS.reaches([0.0, np.nan], None, 10).tolist() == [False, False]
    assert BITS.as_share([0.0, 1.0, 2.0]).tolist() == [1.0, 0.5, 0.25]
