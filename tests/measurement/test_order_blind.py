"""The best exact match of an order-blind predictor, and which architectures are order-blind."""

from collections import Counter, defaultdict

import pytest

from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.reporting.experiment.ceiling import ceiling
from tests.conftest import model, task


@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize("zero_pad", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
def test_the_ceiling_equals_a_dictionary_of_all_problems(digits: int, zero_pad: bool, reverse: bool) -> None:
    answers: dict[str, Counter[int]] = defaultdict(Counter)
    for a in range(10**digits):
        for b in range(10**digits):
            width = digits if zero_pad else 1
            answers["".join(sorted(f"{a:0{width}}{b:0{width}}"))][a + b] += 1
    best = sum(counter.most_common(1)[0][1] for counter in answers.values())
    found = ceiling(task(digits=digits, zero_pad=zero_pad, reverse=reverse))
    assert found == pytest.approx(best / 10 ** (2 * digits))


def test_one_digit_needs_no_order() -> None:
    assert ceiling(task(digits=1)) == pytest.approx(1.0)


def test_three_digits_by_the_million() -> None:
    """Prompts with the same digits: the best guess is right for 53,192 of the 1,000,000 problems."""
    assert ceiling(task(digits=3)) == pytest.approx(0.053192)


def test_beyond_three_digits_it_is_not_computed() -> None:
    assert ceiling(task(digits=4)) is None


@pytest.mark.parametrize(
    ("switches", "blind"),
    [
        ({"positional": "none", "attention": "full", "layers": 3}, True),
        ({"positional": "none", "attention": "causal", "layers": 1}, True),
        ({"positional": "none", "attention": "causal", "layers": 2}, False),
        ({"positional": "learned", "attention": "full"}, False),
        ({"positional": "rotary", "attention": "causal", "layers": 1}, False),
    ],
)
def test_which_architectures_are_order_blind(switches: dict[str, object], blind: bool) -> None:
    assert is_order_blind(model(**switches)) == blind
