"""The ceiling: the best exact match of any predictor that ignores the order of the prompt."""

from collections import Counter, defaultdict

import pytest

from pipeline.reporting.experiment.ceiling import order_blind_ceiling
from tests.conftest import task


@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize("zero_pad", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
def test_the_ceiling_equals_that_counted_over_all_additions(digits: int, zero_pad: bool, reverse: bool) -> None:
    answers: dict[str, Counter[int]] = defaultdict(Counter)
    for a in range(10**digits):
        for b in range(10**digits):
            width = digits if zero_pad else 1
            answers["".join(sorted(f"{a:0{width}}{b:0{width}}"))][a + b] += 1
    best = sum(counter.most_common(1)[0][1] for counter in answers.values())
    share = order_blind_ceiling(task(digits=digits, zero_pad=zero_pad, reverse=reverse))
    assert share == pytest.approx(best / 10 ** (2 * digits))


@pytest.mark.parametrize(("digits", "expected"), [(1, 1.0), (3, 0.053192)])
def test_one_digit_needs_no_order_and_three_digits_need_it(digits: int, expected: float) -> None:
    """The best guess from the digits of the prompt is right for 53,192 of the 1,000,000 additions of three digits."""
    assert order_blind_ceiling(task(digits=digits)) == pytest.approx(expected)


def test_beyond_three_digits_the_ceiling_is_not_computed() -> None:
    assert order_blind_ceiling(task(digits=4)) is None
