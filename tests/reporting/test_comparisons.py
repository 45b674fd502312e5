"""Ablations are compared seed by seed, each with the one that differs in what is asked and in nothing else."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import switches as described
from pipeline.reporting.experiment import comparisons
from tests.reporting.synthetic import Grid, ablation, evidence, grid, listed

SHARES = st.lists(st.integers(0, 2000).map(lambda right: right / 2000), min_size=3, max_size=3)


def compared(made: Grid, measure: str, *, measured: bool = False) -> pd.DataFrame:
    table = evidence(made, measured=measured).tables["comparisons.csv"]
    return table[table["measure"] == measure]


def test_differences_are_taken_over_the_seeds_that_both_have() -> None:
    made = {**ablation("a", [0.9, 0.8, 0.7]), **ablation("b", [0.8, 0.7], positional="learned")}
    found = compared(made, "test_exact_match")
    assert found[["first", "second", "seeds"]].to_numpy().tolist() == [["a", "b", 2]]
    assert found[["difference", "low", "high"]].to_numpy().ravel() == pytest.approx([0.1, 0.1, 0.1])
    assert found[["p", "p_holm", "p_log_rank"]].isna().all(axis=None)


@given(one=SHARES, other=SHARES)
def test_swapping_two_ablations_turns_the_difference_around(one: list[float], other: list[float]) -> None:
    there, back = np.array(one) - np.array(other), np.array(other) - np.array(one)
    assert comparisons.sign_flip_p(there) == pytest.approx(comparisons.sign_flip_p(back))
    assert comparisons.sign_flip_p(there) >= comparisons.smallest_p(3) - 1e-12


def test_every_residual_free_ablation_is_beside_its_whole() -> None:
    made = grid()
    by_name = {one.name: one for one in listed(made)}
    ranks = compared(made, "effective_rank", measured=True)
    assert len(ranks) == sum(not described.is_intact(one) for one in listed(made))
    for first, second in ranks[["first", "second"]].to_numpy():
        assert described.is_intact(by_name[second])
        assert not described.is_intact(by_name[first])
        assert by_name[first].model.positional == by_name[second].model.positional


def test_single_layers_are_those_of_the_usual_network() -> None:
    """Or a sentence would say of one depth what another cost."""
    deeper = {**ablation("deep", [0.99], layers=4), **ablation("deep-free", [0.99], layers=4, residual_free=[1])}
    found = comparisons.single_layer_pairs(listed({**grid(), **deeper}))
    assert [first.name for first, _ in found] == [f"nope-causal-no-residual-{layer}" for layer in range(3)]


def test_steps_are_compared_up_to_the_smaller_budget() -> None:
    """A run that did not converge counts as its budget, so that no seed is left out."""
    made = grid()
    short = made["nope-full"][0]
    training = short.training.model_copy(update={"steps": 1000})
    made = {**made, "nope-full": (short.model_copy(update={"training": training}), made["nope-full"][1])}
    found = compared(made, "restricted_steps").set_index(["first", "second"])
    pair = ("nope-full", "learned-causal")
    reached = (
        evidence(made, measured=False).runs.query("ablation == 'learned-causal'")["steps_to_converge"].min() <= 1000
    )
    assert (pair in found.index) == reached  # where neither got there, there is nothing to compare
    if reached:
        assert (found.loc[pair, "budget"], found.loc[pair, "seeds"]) == (1000, 3)


@pytest.mark.parametrize(("free", "depth"), [([], 3), ([0], 1), ([1, 0], 2), ({"mlp": [2]}, 3)])
def test_a_residual_free_ablation_is_read_after_its_last_such_layer(free: object, depth: int) -> None:
    (one,) = listed(ablation("a", [0.5], residual_free=free))
    assert comparisons.comparison_depth(one) == depth


def test_what_is_declared_is_compared_even_where_no_run_converged() -> None:
    """Others, which would differ by nothing, are left out."""
    made = {
        **ablation("a", [0.5] * 3),
        **ablation("b", [0.4] * 3, positional="learned"),
        **ablation("c", [0.3] * 3, layers=2),
    }
    found = compared(made, "restricted_steps")
    declared = evidence(made, measured=False).tables["comparisons.csv"].query("declared == 1")
    assert len(declared)
    assert found[["first", "second"]].to_numpy().tolist() == declared[["first", "second"]].to_numpy().tolist()
    assert (found["difference"] == 0).all()
