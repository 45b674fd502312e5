"""Statistics of ablations: intervals contain their estimates, counts count, and no run is better than it can be."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.reporting import outcomes, results
from pipeline.reporting.ceiling import order_blind_ceiling
from pipeline.reporting.estimates import COLUMN_TYPES, Estimates, complete_columns
from pipeline.reporting.mechanism import added_dominance, comparison_depth, measured_means
from pipeline.reporting.results import Results, restricted_steps
from tests.reporting.experiment import STEPS, ablation, estimates_of, find, history, results_of, runs

SHARES = st.lists(st.integers(0, 2000).map(lambda right: right / 2000), min_size=1, max_size=12)
CONVERGED = st.lists(st.booleans(), min_size=1, max_size=12)


def outcome(*scores: float, name: str = "nope-causal") -> Estimates:
    return estimates_of({name: scores})


@given(shares=SHARES)
@settings(max_examples=10)
def test_an_ablation_is_summed_up_by_its_runs(shares: list[float]) -> None:
    estimates = outcome(*shares)
    converged = find(estimates, "converged", "nope-causal")
    assert converged.value * converged.row["n"] == pytest.approx(sum(share >= 0.99 for share in shares))
    assert converged.row["low"] <= converged.value <= converged.row["high"]
    median = find(estimates, "test_exact_match", "nope-causal")
    assert (median.row["low"], median.value, median.row["high"]) == (min(shares), np.median(shares), max(shares))


@given(CONVERGED)
@settings(max_examples=10)
def test_restricted_steps_are_a_mean_over_all_runs_and_a_lower_bound_if_any_is_censored(converged: list[bool]) -> None:
    scores = [1.0 if done else 0.5 for done in converged]
    steps = find(outcome(*scores), "restricted_steps", "nope-causal")
    table = results_of({"nope-causal": scores}).runs
    assert steps.value == pytest.approx(table["steps_to_converge"].astype(float).fillna(STEPS).mean())
    bound = "" if all(converged) else "at least " if any(converged) else f"more than {STEPS:,}"
    assert str(steps).startswith(bound)
    assert any(converged) or steps.interval() not in str(steps)
    if len(converged) > 1:
        assert steps.row["low"] <= steps.value <= steps.row["high"]


def test_success_that_is_impossible_by_proof_has_no_interval_and_no_steps() -> None:
    estimates = estimates_of({"nope-full": [0.04, 0.05], "nope-causal": [0.4, 0.5]})
    blind, other = (find(estimates, "converged", name) for name in ("nope-full", "nope-causal"))
    assert blind.interval() == ""
    assert other.interval() != ""
    assert estimates.find("restricted_steps", ablation="nope-full") is None


@pytest.mark.parametrize(("extra", "above"), [(-0.01, 0), (0.0, 0), (0.005, 0), (0.04, 1)])
def test_a_run_is_above_the_ceiling_only_beyond_chance(extra: float, above: int) -> None:
    ceiling = order_blind_ceiling(results_of({"nope-full": [0.0]}).tasks["addition"])
    assert ceiling is not None
    estimates = estimates_of(
        {"nope-full": [ceiling - 0.01, round((ceiling + extra) * 2000) / 2000], "nope-causal": [1.0]}
    )
    counted = find(estimates, "runs_above_ceiling", "nope-full")
    assert round(counted.value * 2) == above
    assert estimates.find("runs_above_ceiling", ablation="nope-causal") is None


def test_many_order_blind_runs_are_allowed_their_lucky_one() -> None:
    ceiling = order_blind_ceiling(results_of({"nope-full": [0.0]}).tasks["addition"])
    assert ceiling is not None
    lucky = stats.binom(2000, ceiling).isf(0.005) / 2000  # a bug if it is the only run, chance among a hundred
    alone, among = (estimates_of({"nope-full": scores}) for scores in ([lucky], [lucky, *[ceiling - 0.005] * 99]))
    assert alone.select("runs_above_ceiling")["value"].item() == 1
    assert among.select("runs_above_ceiling")["value"].item() == 0


def test_a_run_that_could_not_be_scored_answered_nothing() -> None:
    table = runs({"a": [1.0, 0.5]}, [ablation(seeds=[1, 2])])
    table.loc[1, "test_exact_match"] = np.nan
    assert outcomes.exact_match_scores(table).tolist() == [1.0, 0.0]


@given(shares=SHARES)
@settings(max_examples=10)
def test_a_score_of_a_part_is_the_mean_over_the_runs_that_have_it(shares: list[float]) -> None:
    data = results_of({"nope-causal": shares})
    data.runs.loc[:, ["carries_2_examples", "carries_2"]] = [0, np.nan]
    rows = {row["key"]: row for row in map(dict, outcomes.scores_by_part(data))}
    assert "carries=2" not in rows
    for key in ("digit=1", "digit=3", "carries=0", "carries=1"):
        assert rows[key]["value"] == pytest.approx(data.runs[key.replace("=", "_")].mean())


def test_a_diverged_run_counts_as_not_converged_and_only_others_are_still_rising() -> None:
    table = runs({"a": [1.0, 1.0, 0.5, 0.5]}, [ablation(seeds=range(1, 5))])
    curves = history(table)
    table.loc[3, ["diverged", "steps"]] = [1, 100]
    assert restricted_steps(table, STEPS).tolist()[2:] == [STEPS, STEPS]
    assert results.mark_still_rising(table, curves).tolist() == [0, 0, 1, 0]
    flat = runs({"a": [1.0, 0.5, 0.0]}, [ablation()])
    assert results.mark_still_rising(flat, history(flat)).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("curve", "rising"),
    [
        (np.linspace(0, 0.8, 36), True),
        (0.4 + 0.005 * np.sin(np.arange(36) * 2.1), False),
        (np.zeros(36), False),
        (np.linspace(0.9, 0.5, 36), False),
        (np.concatenate((np.zeros(30), np.linspace(0.01, 0.4, 6))), True),
    ],
)
def test_a_run_that_still_rises_is_marked(curve: np.ndarray, rising: bool) -> None:
    assert results.is_rising(pd.Series(curve)) == rising


def test_a_flat_run_is_seldom_called_rising() -> None:
    generator = np.random.default_rng(2)
    flat = generator.binomial(1000, 0.4, (500, 64)) / 1000
    assert np.mean([results.is_rising(pd.Series(curve)) for curve in flat]) < 0.03


def token_probe(accuracy: np.ndarray) -> pd.DataFrame:
    """The measurement of one run: `accuracy[position, token position]`."""
    keys = {"ablation": "a", "seed": 1, "trained": 0, "depth": 0}
    rows = [{**keys, "position": p, "token_position": t, "accuracy": a} for (p, t), a in np.ndenumerate(accuracy)]
    return pd.DataFrame(rows)


def test_the_own_token_dominates_on_the_diagonal_only() -> None:
    diagonal = results.summarise_token_probe(token_probe(np.eye(5))).iloc[0]
    assert (diagonal["dominance"], diagonal["margin"]) == (1.0, 1.0)
    shifted = results.summarise_token_probe(token_probe(np.roll(np.eye(5), 1, axis=1))).iloc[0]
    assert (shifted["dominance"], shifted["margin"]) == (0.0, -1.0)
    equal = results.summarise_token_probe(token_probe(np.full((5, 5), 0.3)))
    assert equal["dominance"].item() == 0.0  # equal is not better


@given(st.integers(2, 6), st.integers(0, 999))
@settings(max_examples=20)
def test_dominance_is_a_share_of_the_positions(positions: int, seed: int) -> None:
    accuracy = np.random.default_rng(seed).random((positions, positions))
    row = results.summarise_token_probe(token_probe(accuracy)).iloc[0]
    assert row["dominance"] == pytest.approx((accuracy.argmax(axis=1) == np.arange(positions)).mean())
    assert row["margin"] > 0 or row["dominance"] < 1


def measurement() -> pd.DataFrame:
    """`x` of three runs at two depths: at initialisation and after training."""
    return pd.DataFrame(
        {"ablation": "nope-causal", "seed": seed, "trained": trained, "depth": depth, "side": "left",
         "dominance": seed * depth + 10 * trained}
        for seed in (1, 2, 4) for trained in (0, 1) for depth in (0, 1)
    )  # fmt: skip


def test_a_measured_mean_is_over_runs_with_its_t_interval_and_training_is_taken_run_by_run() -> None:
    data = results_of({"nope-causal": [1.0] * 3}, results.tidy("own_token", measurement(), ["dominance"]))
    table = measured_means(data)
    assert len(table) == 4
    assert set(table["moment"]) == {"initial", "trained"}
    assert set(table["key"]) == {"side=left"}
    deep = table[(table["depth"] == 1) & (table["moment"] == "trained")].iloc[0]
    assert (deep["low"], deep["high"]) == pytest.approx(stats.ttest_1samp([11, 12, 14], 0).confidence_interval())
    added = list(map(dict, added_dominance(data)))
    assert [(row["depth"], row["value"], row["n"]) for row in added] == [(0, 10, 3), (1, 10, 3)]


@pytest.mark.parametrize(("free", "depth"), [([], 3), ([0], 1), ([1, 0], 2), ({"mlp": [2]}, 3)])
def test_an_ablation_without_connections_is_read_after_its_last_such_layer(free: object, depth: int) -> None:
    assert comparison_depth(ablation(layers=3, residual_free=free)) == depth


def test_a_quantity_and_its_keys_identify_a_row(estimates: Estimates, results: Results) -> None:
    """A quantity, its keys and its ablations identify an estimate, so that a page can refer to it."""
    keys = [
        name
        for name in COLUMN_TYPES
        if COLUMN_TYPES[name] in ("str", "Int64") and name not in ("n", "unit", "method", "budget")
    ]
    assert not estimates.table.duplicated(keys).any()
    assert set(estimates.table["ablation"]) == {one.name for one in results.ablations}
    assert "null" in set(estimates.table["ablation"])  # pandas would read this name as a missing value


def test_intervals_of_shares_end_at_0_or_1_and_those_of_differences_do_not() -> None:
    row = {"unit": "share", "value": 0.9, "low": -0.1, "high": 1.2}
    table = complete_columns(pd.DataFrame([row, row | {"versus": "other"}, row | {"unit": "steps"}]))
    assert table[["low", "high"]].to_numpy().tolist() == [[0, 1], [-0.1, 1.2], [-0.1, 1.2]]


def test_every_measured_number_of_the_file_is_the_mean_of_the_runs(estimates: Estimates, results: Results) -> None:
    rows = estimates.table[(estimates.table["moment"] != "") & (estimates.table["versus"] == "")]
    rows = rows[rows["quantity"] != "own_token.added_dominance"].sample(200, random_state=0)
    for row in rows.to_dict("records"):
        values = results.measured
        for name in ("ablation", "quantity", "key", "moment", "sublayer"):
            values = values[values[name] == row[name]]
        for name in ("layer", "depth", "position"):
            values = values[values[name].isna() if pd.isna(row[name]) else values[name] == row[name]]
        assert row["value"] == pytest.approx(values["value"].mean(), rel=1e-5, abs=1e-9)
        assert row["n"] == len(values)
