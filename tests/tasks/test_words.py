"""Tasks about words, and their twins in which order is worth nothing."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.params import Task
from pipeline.reporting.experiment import ceiling as reported
from pipeline.tasks import digits
from pipeline.tasks.groups import ORDER, S3_TABLE, Z6_TABLE
from pipeline.tasks.registry import parse_task

SIZES = {"train_size": 40, "validation_size": 10, "test_size": 10}
TWINS = {"reverse": "sort", "modp": "mod3", "paridy": "parity", "s3": "z6"}
OPTIONS = {
    **{name: {"digits": 3} for name in ("reverse", "sort", "index")},
    **{name: {"bits": 7} for name in ("paridy", "parity")},
    **{name: {"elements": 4} for name in ("s3", "z6")},
}


def small(name: str) -> Task:
    return parse_task({"name": name, **OPTIONS.get(name, {}), **SIZES})


def answers(name: str) -> dict[str, str]:
    """Prompt -> answer, of all there are."""
    found = small(name).enumerated()
    assert found is not None
    return dict(zip(found[0]["prompt"], found[0]["answer"], strict=True))


@pytest.mark.parametrize(
    ("name", "prompt", "answer"),
    [
        ("reverse", "123=", "321"),
        ("sort", "312=", "123"),
        ("index", "719b=", "1"),
        ("modp", "83modp(380)=", "2"),
        ("mod3", "mod3(83380)=", "1"),
        ("paridy", "0100110=", "0"),
        ("paridy", "1001100=", "0"),
        ("paridy", "0101000=", "1"),
        ("paridy", "0000100=", "0"),
        ("parity", "0100110=", "1"),
        ("z6", "bcde=", "e"),  # 1 + 2 + 3 + 4 = 10 = 4
        ("s3", "aaaf=", "f"),
    ],
)
def test_answers_known_by_hand(name: str, prompt: str, answer: str) -> None:
    assert answers(name)[prompt] == answer


@pytest.mark.parametrize(("name", "twin"), TWINS.items())
def test_a_twin_is_alike_in_all_but_the_worth_of_order(name: str, twin: str) -> None:
    one, other = small(name), small(twin)
    assert one.vocabulary == other.vocabulary
    mine, others = answers(name), answers(twin)
    assert len(mine) == len(others)
    assert {len(prompt) for prompt in mine} == {len(prompt) for prompt in others}
    assert ceiling(name) < 0.9
    assert ceiling(twin) == 1.0


def ceiling(name: str) -> float:
    """The best that can be done by who knows the characters, but not their order."""
    known: dict[str, list[str]] = {}
    for prompt, answer in answers(name).items():
        known.setdefault("".join(sorted(prompt)), []).append(answer)
    best = [max(found.count(answer) for answer in set(found)) for found in known.values()]
    return sum(best) / sum(map(len, known.values()))


@pytest.mark.parametrize(("table", "commutes"), [(S3_TABLE, False), (Z6_TABLE, True)])
def test_groups_are_groups(table: np.ndarray, commutes: bool) -> None:
    for a, b, c in product(range(ORDER), repeat=3):
        assert table[table[a, b], c] == table[a, table[b, c]]
    assert (table[0] == range(ORDER)).all()
    assert (table[:, 0] == range(ORDER)).all()
    assert all((table[a] == 0).sum() == 1 for a in range(ORDER))
    assert (table == table.T).all() == commutes


@given(st.lists(st.sampled_from("01"), min_size=7, max_size=7))
def test_paridy_counts_what_lies_between(bits: list[str]) -> None:
    text = "".join(bits)
    assert answers("paridy")[f"{text}="] == str(text.strip("0").count("0") % 2)


def test_where_all_are_too_many_some_stand_for_all_of_the_same_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same ceiling; of six digits, the expected share of the commonest among them."""
    one = small("index")
    every = reported.ceiling(one)
    monkeypatch.setattr(digits, "MOST_ENUMERATED", 2_999)
    found = one.enumerated()
    assert found is not None
    assert len(found[0]) < 3000
    assert found[1].sum() == pytest.approx(1.0)
    assert reported.ceiling(one) == every
    monkeypatch.undo()
    drawn = np.random.default_rng(0).integers(10, size=(100_000, 6))
    commonest = np.stack([(drawn == digit).sum(1) for digit in range(10)]).max(0).mean() / 6
    six = parse_task({"name": "index", "digits": 6, **SIZES})
    assert reported.ceiling(six) == pytest.approx(commonest, abs=2e-3)
