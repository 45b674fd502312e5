"""Addition: the text says the sum, and the splits keep their promises."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.tasks.addition import count_carries, count_digits
from tests.conftest import task

numbers = st.integers(0, 999_999_999)
options = st.fixed_dictionaries(
    {"reverse": st.booleans(), "zero_pad": st.booleans(), "delimiters": st.booleans(), "digits": st.integers(1, 9)}
)


def schoolbook_carries(a: int, b: int) -> int:
    count = carry = 0
    while a or b:
        carry = int(a % 10 + b % 10 + carry > 9)
        count += carry
        a, b = a // 10, b // 10
    return count


@given(a=numbers, b=numbers)
def test_carries_and_lengths_are_those_of_the_schoolbook(a: int, b: int) -> None:
    assert count_carries(np.array([a]), np.array([b])).tolist() == [schoolbook_carries(a, b)]
    assert count_digits(np.array([a, b])).tolist() == [len(str(a)), len(str(b))]


@given(chosen=options, data=st.data())
def test_the_text_says_the_sum(chosen: dict[str, object], data: st.DataObject) -> None:
    addition = task(**chosen)
    a, b = (data.draw(st.integers(0, 10**addition.digits - 1)) for _ in range(2))
    row = addition.build_table(np.array([a]), np.array([b])).iloc[0]
    left, right = row["prompt"].strip("$").removesuffix("=").split("+")
    said = row["answer"][::-1] if addition.reverse else row["answer"]
    assert (int(left), int(right), int(said)) == (a, b, a + b)
    assert set(row["prompt"] + row["answer"] + addition.end_token) <= set(addition.vocabulary)
    if addition.zero_pad:
        assert len(left) == len(right) == len(said) - 1 == addition.digits


def pairs(table: pd.DataFrame) -> set[tuple[int, int]]:
    return {(min(a, b), max(a, b)) for a, b in zip(table["a"], table["b"], strict=True)}


@settings(max_examples=20)
@given(
    digits=st.sampled_from([2, 4]),
    sampling=st.sampled_from(["uniform", "balanced"]),
    seed=st.integers(0, 1000),
    sizes=st.tuples(st.integers(1, 400), st.integers(1, 60), st.integers(1, 60)),
)
def test_splits_have_their_sizes_and_share_no_pair(
    digits: int, sampling: str, seed: int, sizes: tuple[int, int, int]
) -> None:
    names = ("train", "validation", "test")
    asked = {f"{name}_size": size for name, size in zip(names, sizes, strict=True)}
    splits = task(digits=digits, sampling=sampling, seed=seed, **asked).draw_splits()
    assert {name: len(table) for name, table in splits.items()} == dict(zip(names, sizes, strict=True))
    assert not any(table.duplicated(["a", "b"]).any() for table in splits.values())
    owned = [pairs(table) for table in splits.values()]
    assert sum(map(len, owned)) == len(set.union(*owned))


def test_balanced_sampling_has_every_carry_count_equally_often_and_all_lengths() -> None:
    for table in task(sampling="balanced", digits=3, train_size=2000).draw_splits().values():
        counts = table["carries"].value_counts()
        assert set(counts.index) == {0, 1, 2, 3}
        assert counts.max() - counts.min() <= 1
        lengths = count_digits(np.maximum(table["a"], table["b"]).to_numpy())
        by_length = [int((lengths == each).sum()) for each in (1, 2, 3)]
        assert all(0 < shorter < longer for shorter, longer in pairwise(by_length))


def test_what_is_tested_does_not_depend_on_how_much_is_trained() -> None:
    few, many = (task(train_size=size).draw_splits() for size in (100, 900))
    assert pairs(few["test"]) == pairs(many["test"])


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), test=st.integers(1, 50), validation=st.integers(1, 49))
def test_all_of_the_hundred_one_digit_pairs_can_be_used(seed: int, test: int, validation: int) -> None:
    sizes = {"train_size": 100 - test - validation, "validation_size": validation, "test_size": test}
    splits = task(digits=1, seed=seed, **sizes).draw_splits()
    assert len(set.union(*(set(zip(each["a"], each["b"], strict=True)) for each in splits.values()))) == 100


@pytest.mark.parametrize("digits", [1, 2])
def test_strata_have_the_sizes_that_counting_every_pair_gives(digits: int) -> None:
    addition = task(digits=digits, sampling="balanced", train_size=20, validation_size=8, test_size=8)
    a, b = (x.ravel() for x in np.indices((10**digits, 10**digits)))
    counted = pd.Series(list(zip(count_carries(a, b), count_digits(np.maximum(a, b)), strict=True))).value_counts()
    strata = addition._count_examples_per_stratum(addition.test_size)
    assert {tuple(stratum): addition._count_pairs(stratum) for stratum in strata} == counted.to_dict()


@pytest.mark.parametrize(
    ("chosen", "numbers"),
    [
        ({"digits": 1, "train_size": 99}, "99.* 50.* 50.* 100"),
        ({"digits": 9, "train_size": 10**18}, "1000000000000000000"),
        ({"digits": 2, "train_size": 10_000}, "10000 for train.* 10000"),
        ({"digits": 2, "train_size": 9_000, "sampling": "balanced"}, "0 carries.* 2 digits"),
    ],
)
def test_more_examples_than_exist_are_refused_with_the_numbers(chosen: dict[str, object], numbers: str) -> None:
    with pytest.raises(UserError, match=numbers):
        task(**chosen).draw_splits()


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
def test_the_probabilities_of_all_pairs_match_the_test_split(sampling: str) -> None:
    addition = task(digits=2, sampling=sampling, train_size=20, validation_size=10, test_size=1500)
    table, probability = addition.enumerate_examples()
    assert len(table) == 10_000
    expected = pd.Series(probability).groupby(table["carries"]).sum()
    shares = addition.draw_splits()["test"]["carries"].value_counts(normalize=True).sort_index()
    assert np.abs(shares.to_numpy() - expected.to_numpy()).max() < 0.04
