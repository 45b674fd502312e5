"""Answers of the tasks about words, and their order-free controls."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.params import Task
from pipeline.reporting.ceiling import order_blind_ceiling
from pipeline.tasks import digits
from pipeline.tasks.groups import GROUP_SIZE, CyclicGroupProduct, GroupProduct, SymmetricGroupProduct
from pipeline.tasks.registry import parse_task

SIZES = {"train_size": 40, "validation_size": 10, "test_size": 10}
CONTROLS = {"reverse": "sort", "modp": "mod3", "paridy": "parity", "s3": "z6"}
OPTIONS = {
    **{name: {"digits": 3} for name in ("reverse", "sort", "index")},
    **{name: {"bits": 7} for name in ("paridy", "parity")},
    **{name: {"elements": 4} for name in ("s3", "z6")},
}


def small(name: str) -> Task:
    return parse_task({"name": name, **OPTIONS.get(name, {}), **SIZES})


def answers(name: str) -> dict[str, str]:
    """Prompt -> answer, for all examples."""
    enumerated = small(name).enumerate_examples()
    assert enumerated is not None
    return dict(zip(enumerated[0]["prompt"], enumerated[0]["answer"], strict=True))


@pytest.mark.parametrize(
    ("name", "prompt", "answer"),
    [
        ("reverse", "123=", "321"),
        ("sort", "312=", "123"),
        ("index", "719b=", "1"),
        ("modp", "83modp(380)=", "2"),
        ("mod3", "mod3(83380)=", "1"),
        ("paridy", "0100110=", "0"),
        ("parity", "0100110=", "1"),
        ("z6", "bcde=", "e"),  # 1 + 2 + 3 + 4 = 10 = 4
        ("s3", "aaaf=", "f"),
    ],
)
def test_answers_known_by_hand(name: str, prompt: str, answer: str) -> None:
    assert answers(name)[prompt] == answer


@pytest.mark.parametrize(("name", "control"), CONTROLS.items())
def test_a_control_differs_only_in_the_value_of_order(name: str, control: str) -> None:
    assert small(name).vocabulary == small(control).vocabulary
    assert len(answers(name)) == len(answers(control))
    assert {len(prompt) for prompt in answers(name)} == {len(prompt) for prompt in answers(control)}
    assert order_blind_best(name) < 0.9
    assert order_blind_best(control) == 1.0


def order_blind_best(name: str) -> float:
    """The best exact match of a predictor that knows the characters of a prompt, but not their order."""
    by_characters: dict[str, list[str]] = {}
    for prompt, answer in answers(name).items():
        by_characters.setdefault("".join(sorted(prompt)), []).append(answer)
    best = [max(group.count(answer) for answer in set(group)) for group in by_characters.values()]
    return sum(best) / sum(map(len, by_characters.values()))


@pytest.mark.parametrize("group", [SymmetricGroupProduct, CyclicGroupProduct])
def test_groups_are_groups(group: type[GroupProduct]) -> None:
    table = group.multiplication_table
    for a, b, c in product(range(GROUP_SIZE), repeat=3):
        assert table[table[a, b], c] == table[a, table[b, c]]
    assert (table[0] == range(GROUP_SIZE)).all()
    assert (table[:, 0] == range(GROUP_SIZE)).all()
    assert all((table[a] == 0).sum() == 1 for a in range(GROUP_SIZE))
    assert (table == table.T).all() == (group is CyclicGroupProduct)


@given(st.lists(st.sampled_from("01"), min_size=7, max_size=7))
def test_paridy_counts_the_zeros_between_the_ones(bits: list[str]) -> None:
    text = "".join(bits)
    assert answers("paridy")[f"{text}="] == str(text.strip("0").count("0") % 2)


def test_rotations_that_stand_for_all_orders_give_the_same_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """For six digits, the ceiling is the expected share of the commonest digit."""
    index = small("index")
    expected = order_blind_ceiling(index)
    monkeypatch.setattr(digits, "MAX_ENUMERATED_EXAMPLES", 2_999)
    enumerated = index.enumerate_examples()
    assert enumerated is not None
    assert len(enumerated[0]) < 3000
    assert enumerated[1].sum() == pytest.approx(1.0)
    assert order_blind_ceiling(index) == expected
    monkeypatch.undo()
    drawn = np.random.default_rng(0).integers(10, size=(100_000, 6))
    commonest = np.stack([(drawn == digit).sum(1) for digit in range(10)]).max(0).mean() / 6
    six = parse_task({"name": "index", "digits": 6, **SIZES})
    assert order_blind_ceiling(six) == pytest.approx(commonest, abs=2e-3)
