"""Tables: intervals contain their estimates, counts count, and no run is better than it can be."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.reporting import survival
from pipeline.reporting.experiment import tables
from tests.reporting.experiment import SCORES, STEPS, ablation, history, made_up, runs

CEILING = 0.0532
SHARES = st.lists(st.integers(0, 2000).map(lambda right: right / 2000), min_size=1, max_size=12)
CONVERGED = st.lists(st.booleans(), min_size=1, max_size=12)
CONTRACT = [
    *("ablation", "runs", "converged", "converged_low", "converged_high", "test_exact_match_mean"),
    *("test_exact_match_median", "test_exact_match_min", "test_exact_match_max", "order_blind_ceiling"),
]


def runs_of(*scores: float, **switches: object) -> pd.DataFrame:
    """Evaluations of one ablation."""
    return runs({"a": scores}, [ablation(seeds=range(1, 1 + len(scores)), **switches)])


def summary(table: pd.DataFrame, ceiling: float | None = None, **switches: object) -> pd.Series:
    """The row of `ablations.csv` of one ablation with these runs."""
    table = table.assign(still_rising=tables.mark_still_rising(table, history(table)))
    return tables.ablation_table([ablation(**switches)], table, {"addition": ceiling}, {}).iloc[0]


def outcomes(converged: list[bool]) -> pd.DataFrame:
    return runs_of(*(1.0 if done else 0.5 for done in converged))


@given(shares=SHARES)
@settings(max_examples=20)
def test_an_ablation_is_summed_up_by_its_runs(shares: list[float]) -> None:
    row = summary(runs_of(*shares))
    assert row["runs"] == len(shares)
    assert row["converged"] == sum(share >= 0.99 for share in shares)
    assert row["converged_low"] <= row["converged"] / row["runs"] <= row["converged_high"]
    low, high = row["test_exact_match_min"], row["test_exact_match_max"]
    assert (low, high) == (min(shares), max(shares))
    assert low <= row["test_exact_match_median"] <= high
    assert low - 1e-12 <= row["test_exact_match_mean"] <= high + 1e-12


@given(shares=SHARES)
@settings(max_examples=20)
def test_a_breakdown_is_the_mean_over_the_runs(shares: list[float]) -> None:
    table = runs_of(*shares)
    for means, name in (
        (tables.mean_by_position(table, "digit"), "digit"),
        (tables.mean_by_stratum(table, "carries"), "carries"),
    ):
        for row in means.to_dict("records"):
            assert row["mean"] == pytest.approx(table[f"{name}_{row['key']}"].mean())


def test_the_columns_of_the_contract_come_first_and_ablations_keep_their_order() -> None:
    ablations = made_up(SCORES).all_ablations()
    table = runs(SCORES, ablations).assign(still_rising=0)
    summaries = tables.ablation_table(ablations, table, {"addition": CEILING}, {})
    assert list(summaries)[: len(CONTRACT)] == CONTRACT
    assert list(summaries["ablation"]) == list(SCORES)
    blind = summaries.loc[summaries["order_blind_ceiling"].notna(), "ablation"]
    assert set(blind) == {"nope-full", "nope-causal-1-layer"}


@pytest.mark.parametrize(("share", "above"), [(0.03, 0), (CEILING, 0), (0.06, 0), (0.09, 1)])
def test_a_run_is_above_the_ceiling_only_beyond_chance(share: float, above: int) -> None:
    assert summary(runs_of(0.04, share, attention="full"), CEILING, attention="full")["runs_above_ceiling"] == above
    assert pd.isna(summary(runs_of(0.04, share), CEILING)["runs_above_ceiling"])


def test_many_order_blind_runs_are_allowed_their_lucky_one() -> None:
    lucky = 0.067  # p about 0.005: a bug if it is the only run, chance among a hundred

    def above(*scores: float) -> "pd.Series[bool]":
        table = runs_of(*scores, attention="full")
        return tables.check_against_ceiling([ablation(attention="full")], table, "addition", CEILING)["above"]

    assert above(lucky).all()
    assert not above(lucky, *[0.05] * 99).any()


def test_a_run_that_could_not_be_scored_answered_nothing() -> None:
    table = runs_of(1.0, 0.5)
    table.loc[1, "test_exact_match"] = np.nan
    assert summary(table.assign(still_rising=0))["test_exact_match_min"] == 0


def test_a_stratum_without_examples_has_no_row() -> None:
    table = runs_of(0.5)
    table["carries_2_examples"], table["carries_2"] = 0, np.nan
    assert list(tables.mean_by_stratum(table, "carries")["key"]) == [0, 1]


@given(CONVERGED)
@settings(max_examples=20)
def test_the_survival_curve_ends_at_the_share_of_censored_runs(converged: list[bool]) -> None:
    curve = survival.unconverged_share_by_step(outcomes(converged))
    assert curve["share"].iloc[-1] == pytest.approx(1 - sum(converged) / len(converged))
    assert curve["share"].is_monotonic_decreasing
    bounded = curve.dropna()
    assert ((bounded["low"] <= bounded["share"]) & (bounded["share"] <= bounded["high"])).all()
    assert len(converged) >= survival.MIN_RUNS_FOR_INTERVAL or len(bounded) == 1


@given(CONVERGED)
@settings(max_examples=20)
def test_restricted_steps_are_a_mean_over_all_runs_up_to_the_budget(converged: list[bool]) -> None:
    table = outcomes(converged)
    row = summary(table)
    steps = table["steps_to_converge"].astype(float).fillna(STEPS)
    assert row["restricted_steps"] == pytest.approx(steps.mean())
    assert row["restricted_steps"] <= row["budget"] == STEPS
    if len(converged) > 1:
        assert row["restricted_steps_low"] <= row["restricted_steps"] <= row["restricted_steps_high"]


def test_a_diverged_run_counts_as_not_converged() -> None:
    table = outcomes([True, True, False, False])
    curves = history(table)
    table.loc[3, ["diverged", "steps"]] = [1, 100]
    assert survival.restricted_steps(table, STEPS).tolist()[2:] == [STEPS, STEPS]
    assert tables.mark_still_rising(table, curves).tolist() == [0, 0, 1, 0]


def test_only_runs_that_did_not_converge_are_still_rising() -> None:
    table = runs_of(1.0, 0.5, 0.0)
    assert tables.mark_still_rising(table, history(table)).tolist() == [0, 1, 0]


def token_probe(accuracy: np.ndarray) -> pd.DataFrame:
    """The measurement of one run: `accuracy[position, token position]`."""
    keys = {"ablation": "a", "seed": 1, "step": 0, "trained": 0, "depth": 0}
    rows = [{**keys, "position": p, "token_position": t, "accuracy": a} for (p, t), a in np.ndenumerate(accuracy)]
    return pd.DataFrame(rows)


def test_the_own_token_dominates_on_the_diagonal_only() -> None:
    diagonal = tables.own_token_table(token_probe(np.eye(5))).iloc[0]
    assert (diagonal["dominance"], diagonal["margin"]) == (1.0, 1.0)
    shifted = tables.own_token_table(token_probe(np.roll(np.eye(5), 1, axis=1))).iloc[0]
    assert (shifted["dominance"], shifted["margin"]) == (0.0, -1.0)
    assert tables.own_token_table(token_probe(np.full((5, 5), 0.3)))["dominance"].item() == 0.0  # equal is not better


@given(st.integers(2, 6), st.integers(0, 999))
@settings(max_examples=20)
def test_dominance_is_a_share_of_the_positions(positions: int, seed: int) -> None:
    accuracy = np.random.default_rng(seed).random((positions, positions))
    row = tables.own_token_table(token_probe(accuracy)).iloc[0]
    assert row["dominance"] == pytest.approx((accuracy.argmax(axis=1) == np.arange(positions)).mean())
    assert row["margin"] > 0 or row["dominance"] < 1


def measurement() -> pd.DataFrame:
    """`x` of three runs at two depths: at initialisation, in a snapshot, and after training."""
    rows = [
        {
            "ablation": "a",
            "seed": seed,
            "step": step,
            "trained": trained,
            "depth": depth,
            "x": seed * depth + 10 * trained,
        }
        for seed in (1, 2, 4)
        for step, trained in ((0, 0), (50, 0), (100 * seed, 1))
        for depth in (0, 1)
    ]
    return pd.DataFrame(rows)


def test_a_summary_is_a_mean_over_runs_with_its_t_interval() -> None:
    table = tables.summarise_over_seeds(measurement(), ["x"])
    assert len(table) == 6  # runs after training count together, whatever their last step
    assert (table["n"] == 3).all()
    deep = table[(table["depth"] == 1) & (table["trained"] == 1)].iloc[0]
    assert (deep["low"], deep["high"]) == pytest.approx(stats.ttest_1samp([11, 12, 14], 0).confidence_interval())


def test_the_effect_of_training_is_taken_run_by_run() -> None:
    table = tables.subtract_initial_values(measurement(), ["x"])
    assert table[["seed", "step", "trained", "depth", "x"]].to_numpy().tolist() == [
        [seed, 100 * seed, 1, depth, 10] for seed in (1, 2, 4) for depth in (0, 1)
    ]
