"""Cells are compared seed by seed, each with the one that differs in what is asked and in nothing else."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import cells as described
from pipeline.reporting.grid import comparisons
from tests.reporting.synthetic import cell, cells, evidence, grid

SHARES = st.lists(st.integers(0, 2000).map(lambda right: right / 2000), min_size=3, max_size=3)


def rows(question: str, measure: str, table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["question"] == question) & (table["measure"] == measure)]


def test_differences_are_taken_over_the_seeds_that_both_have() -> None:
    made = {**cell("a", [0.9, 0.8, 0.7]), **cell("b", [0.8, 0.7], positional="learned")}
    found = rows("without_positional", "test_exact_match", evidence(made, measured=False).tables["comparisons.csv"])
    assert found[["first", "second", "seeds"]].to_numpy().tolist() == [["a", "b", 2]]
    assert found[["median", "min", "max"]].to_numpy().ravel() == pytest.approx([0.1, 0.1, 0.1])
    assert found["p"].item() == 0.5  # the least that two seeds can give


@given(one=SHARES, other=SHARES)
def test_swapping_two_cells_turns_the_difference_around(one: list[float], other: list[float]) -> None:
    there, back = np.array(one) - np.array(other), np.array(other) - np.array(one)
    assert comparisons.sign_flip(there) == pytest.approx(comparisons.sign_flip(back))
    assert comparisons.sign_flip(there) >= 0.25 - 1e-12  # the least that three seeds can give


def test_more_comparisons_make_each_less_sure() -> None:
    alone = {**cell("a", [0.9] * 8), **cell("b", [0.8] * 8, positional="learned")}
    more = {**alone, **cell("c", [0.7] * 8, positional="rotary")}
    p = [
        rows("without_positional", "test_exact_match", evidence(made, measured=False).tables["comparisons.csv"])["p"]
        for made in (alone, more)
    ]
    assert p[1].iloc[0] == pytest.approx(2 * p[0].iloc[0])


def test_every_residual_free_cell_is_beside_its_whole_and_its_control() -> None:
    made = grid()
    table = evidence(made).tables["comparisons.csv"]
    by_name = {one.name: one for one in cells(made)}
    for measure in ("test_exact_match",):
        for first, second in rows("residual_connections", measure, table)[["first", "second"]].to_numpy():
            assert described.is_whole(by_name[second])
            assert not described.is_whole(by_name[first])
            assert by_name[first].model.positional == by_name[second].model.positional
    pairs = {(one.name, other.name) for one, other in comparisons.controls(cells(made))}
    assert pairs == {
        ("nope-causal-no-residual-1-identity", "nope-causal-no-residual-1"),
        ("nope-causal-no-residual-0-1-identity", "nope-causal-no-residual-0-1"),
    }


def test_a_ratio_is_that_of_the_steps_where_both_converged() -> None:
    table = rows("without_positional", "steps_ratio", evidence(grid(), measured=False).tables["comparisons.csv"])
    ratio = table.set_index("first").loc["nope-causal"]
    assert (ratio["second"], ratio["seeds"], ratio["median"]) == ("learned-causal", 3, 1.0)
    assert "nope-full" not in set(table["first"])  # no seed of it converged


@pytest.mark.parametrize(("free", "depth"), [([], 3), ([0], 1), ([1, 0], 2), ({"mlp": [2]}, 3)])
def test_a_residual_free_cell_is_read_after_its_last_such_layer(free: object, depth: int) -> None:
    (one,) = cells(cell("a", [0.5], residual_free=free))
    assert comparisons.depth_to_read(one) == depth
