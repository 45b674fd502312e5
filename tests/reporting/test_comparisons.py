"""Ablations are compared seed by seed, each with the one that differs in the switch of interest and in nothing else."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import switches
from pipeline.reporting.experiment import comparisons
from tests.reporting.experiment import SCORES, ablation, experiment, made_up, report_of, trained

SHARES = st.lists(st.integers(0, 2000).map(lambda right: right / 2000), min_size=3, max_size=3)


def compared(measure: str, scores: dict, measured: dict | None = None, **options: object) -> pd.DataFrame:
    table = report_of(scores, measured, **options)[1]["comparisons.csv"]
    return table[table["measure"] == measure]


def test_differences_are_taken_over_the_seeds_that_both_have() -> None:
    scores = {"nope-causal": [0.9, 0.8, 0.7], "learned-causal": [0.8, 0.7]}
    table = compared("test_exact_match", scores, declared=[])
    assert table[["first", "second", "seeds"]].to_numpy().tolist() == [["nope-causal", "learned-causal", 2]]
    assert table[["difference", "low", "high"]].to_numpy().ravel() == pytest.approx([0.1, 0.1, 0.1])
    assert table[["p", "p_holm", "p_log_rank"]].isna().all(axis=None)


@given(first=SHARES, second=SHARES)
def test_swapping_two_ablations_changes_the_sign_of_the_difference_alone(
    first: list[float], second: list[float]
) -> None:
    differences = np.array(first) - np.array(second)
    assert comparisons.sign_flip_p_value(differences) == pytest.approx(comparisons.sign_flip_p_value(-differences))
    assert comparisons.sign_flip_p_value(differences) >= comparisons.smallest_p_value(3) - 1e-12


def test_every_residual_free_ablation_is_compared_with_its_intact_counterpart(measured: dict) -> None:
    by_name = {ablation.name: ablation for ablation in trained().all_ablations()}
    ranks = compared("effective_rank", {name: SCORES[name] for name in by_name}, measured)
    assert set(ranks["first"]) == {name for name, ablation in by_name.items() if not switches.is_intact(ablation)}
    for first, second in ranks[["first", "second"]].to_numpy():
        assert switches.is_intact(by_name[second])
        assert by_name[first].model.positional == by_name[second].model.positional


def test_single_layers_belong_to_the_same_network() -> None:
    """Otherwise a sentence would compare layers of networks of different depth."""
    deeper = experiment({"deep": {"layers": 4}, "deep-0": {"layers": 4, "residual_free": [0]}}, steps=2000)
    pairs = comparisons.single_layer_pairs([*made_up(SCORES).all_ablations(), *deeper.all_ablations()])
    assert [first.name for first, _ in pairs] == ["no-residual-0", "no-residual-1"]


def test_steps_are_compared_up_to_the_smaller_budget() -> None:
    """A run that did not converge counts as its budget, so that no seed is left out."""
    table = pd.DataFrame(
        {"ablation": ["a", "b"] * 2, "seed": [1, 1, 2, 2], "steps_to_converge": [400, 900, 1600, None]}
    )
    values = comparisons.pivot_by_seed("restricted_steps", table, 1000)
    assert comparisons.differences_by_seed(values, "a", "b").tolist() == [-500, 0]


@pytest.mark.parametrize(("free", "depth"), [([], 3), ([0], 1), ([1, 0], 2), ({"mlp": [2]}, 3)])
def test_a_residual_free_ablation_is_read_after_its_last_such_layer(free: object, depth: int) -> None:
    assert comparisons.comparison_depth(ablation(layers=3, residual_free=free)) == depth


def test_a_declared_comparison_is_reported_even_where_no_run_converged() -> None:
    """Other comparisons, whose difference would be 0, are left out."""
    scores = {"nope-causal": [0.5] * 3, "learned-causal": [0.4] * 3, "nope-causal-1-layer": [0.3] * 3}
    table = compared("restricted_steps", scores)
    assert table[["first", "second", "declared"]].to_numpy().tolist() == [["nope-causal", "learned-causal", 1]]
    assert (table["difference"] == 0).all()
