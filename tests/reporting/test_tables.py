"""Intervals hold their estimates, counts count, and no run knows more than it can."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.reporting import survival
from pipeline.reporting.experiment import tables
from tests.reporting.synthetic import CEILING, STEPS, Grid, ablation, ablations, grid, history, listed, runs

SHARES = st.lists(st.integers(0, 2000).map(lambda right: right / 2000), min_size=1, max_size=12)
CONTRACT = [
    *("ablation", "runs", "converged", "converged_low", "converged_high", "test_exact_match_mean"),
    *("test_exact_match_median", "test_exact_match_min", "test_exact_match_max", "order_blind_ceiling"),
]


@given(shares=SHARES)
@settings(max_examples=30)
def test_a_ablation_is_summed_up_by_its_runs(shares: list[float]) -> None:
    summary = ablations(ablation("a", shares)).iloc[0]
    assert summary["runs"] == len(shares)
    assert summary["converged"] == sum(share >= 0.99 for share in shares)
    assert summary["converged_low"] <= summary["converged"] / summary["runs"] <= summary["converged_high"]
    low, high = summary["test_exact_match_min"], summary["test_exact_match_max"]
    assert (low, high) == (min(shares), max(shares))
    assert low <= summary["test_exact_match_median"] <= high
    assert low - 1e-12 <= summary["test_exact_match_mean"] <= high + 1e-12


@given(shares=SHARES)
@settings(max_examples=20)
def test_a_breakdown_is_the_mean_over_the_runs(shares: list[float]) -> None:
    made = runs(ablation("a", shares))
    for table, name in (
        (tables.mean_by_position(made, "digit"), "digit"),
        (tables.mean_by_stratum(made, "carries"), "carries"),
    ):
        for row in table.to_dict("records"):
            assert row["mean"] == pytest.approx(made[f"{name}_{row['key']}"].mean())


def test_the_columns_others_rely_on_come_first_in_the_order_of_the_grid() -> None:
    table = ablations(grid())
    assert list(table)[: len(CONTRACT)] == CONTRACT
    assert list(table["ablation"]) == list(grid())


def test_only_order_blind_ablations_have_a_ceiling() -> None:
    table = ablations(grid()).set_index("ablation")
    assert set(table.index[table["order_blind_ceiling"].notna()]) == {"nope-full", "nope-causal-1-layer"}
    assert ablations(grid(), None)["order_blind_ceiling"].isna().all()


@pytest.mark.parametrize(("share", "above"), [(0.03, 0), (CEILING, 0), (0.06, 0), (0.09, 1)])
def test_a_run_is_above_the_ceiling_only_beyond_chance(share: float, above: int) -> None:
    summary = ablations({**ablation("blind", [0.04, share], attention="full"), **ablation("seeing", [0.99])})
    summary = summary.set_index("ablation")
    assert summary.loc["blind", "runs_above_ceiling"] == above
    assert pd.isna(summary.loc["seeing", "runs_above_ceiling"])


def test_many_order_blind_runs_are_allowed_their_lucky_one() -> None:
    lucky = 0.067  # p about 0.005: alone it is called a bug, among a hundred it is not

    def above(made: Grid) -> "pd.Series[bool]":
        return tables.above_ceiling(listed(made), runs(made), "addition", CEILING)["above"]

    assert above(ablation("b", [lucky], attention="full")).all()
    assert not above(ablation("b", [lucky, *[0.05] * 99], attention="full")).any()


def test_a_run_that_could_not_be_scored_answered_nothing() -> None:
    made = ablation("a", [1.0, 0.5])
    table = runs(made)
    table.loc[1, "test_exact_match"] = np.nan
    assert tables.ablation_table(listed(made), table, {"addition": None}, {})["test_exact_match_min"].item() == 0


def test_no_examples_in_a_stratum_is_no_row() -> None:
    table = runs(ablation("a", [0.5]))
    table["carries_3_examples"], table["carries_3"] = 0, np.nan
    assert list(tables.mean_by_stratum(table, "carries")["key"]) == [0, 1, 2]


CONVERGED = st.lists(st.booleans(), min_size=1, max_size=12)


def censored(converged: list[bool]) -> pd.DataFrame:
    return runs(ablation("a", [1.0 if done else 0.5 for done in converged]))


@given(CONVERGED)
@settings(max_examples=20)
def test_the_share_left_is_that_of_the_censored_runs(converged: list[bool]) -> None:
    curve = survival.not_yet_converged(censored(converged))
    assert curve["share"].iloc[-1] == pytest.approx(1 - sum(converged) / len(converged))
    assert curve["share"].is_monotonic_decreasing
    known = curve.dropna()
    assert ((known["low"] <= known["share"]) & (known["share"] <= known["high"])).all()
    assert len(converged) >= survival.MIN_RUNS or len(known) == 1  # so few say nothing of how sure they are


@given(CONVERGED)
@settings(max_examples=20)
def test_steps_are_a_mean_over_all_runs_up_to_the_budget(converged: list[bool]) -> None:
    table = ablations(ablation("a", [1.0 if done else 0.5 for done in converged])).iloc[0]
    steps = runs(ablation("a", [1.0 if done else 0.5 for done in converged]))["steps_to_converge"].fillna(STEPS)
    assert table["restricted_steps"] == pytest.approx(steps.astype(float).mean())
    assert table["restricted_steps"] <= table["budget"] == STEPS
    if len(converged) > 1:
        assert table["restricted_steps_low"] <= table["restricted_steps"] <= table["restricted_steps_high"]


def test_a_diverged_run_does_not_leave_the_count() -> None:
    table = censored([True, True, False, False])
    table.loc[3, ["diverged", "steps"]] = [1, 100]
    assert survival.restricted_steps(table, STEPS).tolist()[2:] == [STEPS, STEPS]
    assert tables.still_rising(table, history(ablation("a", [1.0, 1.0, 0.5, 0.5]))).tolist()[3] == 0


def test_only_runs_that_did_not_converge_rise() -> None:
    made = ablation("a", [1.0, 0.5, 0.0])
    table, curves = runs(made), history(made)
    assert tables.still_rising(table, curves).tolist() == [0, 1, 0]


def slices(matrix: np.ndarray) -> pd.DataFrame:
    """Accuracies of one member: row the column that is read, column the token that is looked for."""
    member = {"ablation": "a", "seed": 1, "step": 0, "trained": 0, "depth": 0}
    rows = [{**member, "position": p, "token_position": t, "accuracy": a} for (p, t), a in np.ndenumerate(matrix)]
    return pd.DataFrame(rows)


def test_the_identity_dominates_and_a_shifted_one_does_not() -> None:
    own = tables.own_token_table(slices(np.eye(5))).iloc[0]
    assert (own["dominance"], own["margin"]) == (1.0, 1.0)
    shifted = tables.own_token_table(slices(np.roll(np.eye(5), 1, axis=1))).iloc[0]
    assert (shifted["dominance"], shifted["margin"]) == (0.0, -1.0)
    assert tables.own_token_table(slices(np.full((5, 5), 0.3)))["dominance"].item() == 0.0  # equal is not better


@given(st.integers(2, 6), st.integers(0, 999))
def test_dominance_is_a_share_of_the_positions(positions: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).random((positions, positions))
    found = tables.own_token_table(slices(matrix)).iloc[0]
    best = (matrix.argmax(axis=1) == np.arange(positions)).mean()
    assert found["dominance"] == pytest.approx(best)
    assert (found["margin"] > 0) or found["dominance"] < 1


def test_a_summary_holds_the_mean_in_its_interval_and_counts_members() -> None:
    rows = [
        {"ablation": "a", "seed": seed, "step": step, "trained": trained, "depth": depth, "x": seed * depth}
        for seed in (1, 2, 4)
        for step, trained in ((0, 0), (100 * seed, 1))
        for depth in (0, 1)
    ]
    table = tables.summarise(pd.DataFrame(rows), ["x"])
    assert len(table) == 4  # trained members count together, whatever their last step
    assert (table["n"] == 3).all()
    assert ((table["low"] <= table["mean"]) & (table["mean"] <= table["high"])).all()
    deep = table[(table["depth"] == 1) & (table["trained"] == 1)].iloc[0]
    assert (deep["low"], deep["high"]) == pytest.approx(stats.ttest_1samp([1, 2, 4], 0).confidence_interval())


def test_what_training_added_is_taken_member_by_member() -> None:
    rows = [
        {
            "ablation": "a",
            "seed": seed,
            "step": step,
            "trained": trained,
            "depth": depth,
            "x": seed + 10 * trained + step,
        }
        for seed in (1, 2)
        for step, trained in ((0, 0), (50, 0), (100 * seed, 1))
        for depth in (0, 1)
    ]
    table = tables.added_by_training(pd.DataFrame(rows), ["x"])
    assert table[["seed", "step", "trained", "depth", "x"]].to_numpy().tolist() == [
        [seed, 100 * seed, 1, depth, 10 + 100 * seed] for seed in (1, 2) for depth in (0, 1)
    ]
