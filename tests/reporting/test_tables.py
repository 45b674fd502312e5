"""Intervals hold their estimates, counts count, and no run knows more than it can."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.reporting import tables
from tests.reporting.synthetic import CEILING, cell, grid, order_blind

SHARES = st.lists(st.integers(0, 2000).map(lambda right: right / 2000), min_size=1, max_size=12)
CONTRACT = [
    *("ablation", "runs", "converged", "converged_low", "converged_high", "test_exact_match_mean"),
    *("test_exact_match_median", "test_exact_match_min", "test_exact_match_max", "order_blind_ceiling"),
]


@given(shares=SHARES)
@settings(max_examples=30)
def test_a_cell_is_summed_up_by_its_runs(shares: list[float]) -> None:
    summary = tables.ablations(cell("a", shares), None, set()).iloc[0]
    assert summary["runs"] == len(shares)
    assert summary["converged"] == sum(share >= 0.99 for share in shares)
    assert summary["converged_low"] <= summary["converged"] / summary["runs"] <= summary["converged_high"]
    low, high = summary["test_exact_match_min"], summary["test_exact_match_max"]
    assert (low, high) == (min(shares), max(shares))
    assert low <= summary["test_exact_match_median"] <= high
    assert low - 1e-12 <= summary["test_exact_match_mean"] <= high + 1e-12


@given(shares=SHARES)
@settings(max_examples=20)
def test_pooled_intervals_hold_the_mean(shares: list[float]) -> None:
    runs = cell("a", shares)
    for table in (tables.by_digit(runs), tables.by_carries(runs)):
        slack = 0.5 / table["examples"] * table["runs"]  # the made-up shares are no whole number of examples
        assert (table["low"] <= table["mean"] + slack).all()
        assert (table["mean"] - slack <= table["high"]).all()
        assert (table["runs"] == len(shares)).all()


def test_the_columns_others_rely_on_come_first_in_the_order_of_the_grid() -> None:
    runs = grid()
    table = tables.ablations(runs, CEILING, order_blind(runs))
    assert list(table)[: len(CONTRACT)] == CONTRACT
    assert list(table["ablation"]) == list(dict.fromkeys(runs["ablation"]))


def test_only_order_blind_cells_have_a_ceiling() -> None:
    runs = grid()
    table = tables.ablations(runs, CEILING, order_blind(runs)).set_index("ablation")
    blind = table.index[table["order_blind_ceiling"].notna()]
    assert set(blind) == {"none-full", "none-causal-1-layer"}
    assert tables.ablations(runs, None, order_blind(runs))["order_blind_ceiling"].isna().all()


@pytest.mark.parametrize(("share", "above"), [(0.03, 0), (CEILING, 0), (0.06, 0), (0.09, 1)])
def test_a_run_is_above_the_ceiling_only_beyond_chance(share: float, above: int) -> None:
    runs = pd.concat([cell("none-full", [0.04, share], attention="full"), cell("none-causal", [0.99])])
    assert tables.above_ceiling(runs, CEILING, {"none-full"})["above"].sum() == above
    summary = tables.ablations(runs, CEILING, {"none-full"}).set_index("ablation")
    assert summary.loc["none-full", "runs_above_ceiling"] == above
    assert pd.isna(summary.loc["none-causal", "runs_above_ceiling"])


def test_many_order_blind_runs_are_allowed_their_lucky_one() -> None:
    lucky = 0.067  # p about 0.005: alone it is called a bug, among a hundred it is not
    assert tables.above_ceiling(cell("b", [lucky]), CEILING, {"b"})["above"].all()
    assert not tables.above_ceiling(cell("b", [lucky, *[0.05] * 99]), CEILING, {"b"})["above"].any()


def test_a_run_that_could_not_be_scored_answered_nothing() -> None:
    runs = cell("a", [1.0, 0.5])
    runs.loc[1, "test_exact_match"] = np.nan
    assert tables.ablations(runs, None, set())["test_exact_match_min"].item() == 0


def test_no_examples_with_so_many_carries_is_no_row() -> None:
    runs = cell("a", [0.5])
    runs["carries_3_examples"], runs["carries_3"] = 0, np.nan
    assert list(tables.by_carries(runs)["carries"]) == [0, 1, 2]
