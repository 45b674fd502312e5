"""Contrasts pair ablations that differ in one switch, seed by seed, and their p-values keep what they promise."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline import switches
from pipeline.params import Comparison
from pipeline.reporting import contrasts, tables
from pipeline.reporting.estimates import DECIDED_LEVEL, Estimate, Estimates
from pipeline.reporting.intervals import exact_share_interval
from pipeline.reporting.permutation import smallest_p_value
from pipeline.reporting.results import Results
from pipeline.tasks.registry import parse_task
from tests.conftest import training
from tests.reporting.experiment import ABLATIONS, SCORES, ablation, estimates_of, find, made_up


def test_exactly_the_pairs_that_differ_in_one_switch_are_compared() -> None:
    ablations = made_up(SCORES).all_ablations()
    pairs = contrasts.contrast_pairs(ablations, [])
    compared = {frozenset((first.name, second.name)) for first, second in pairs}
    assert len(compared) == len(pairs)
    for index, one in enumerate(ablations):
        for other in ablations[index + 1 :]:
            differing = [switch.field for switch in switches.SWITCHES if switch.value_of(one) != switch.value_of(other)]
            if switches.is_intact(one) or switches.is_intact(other):  # an intact network has nothing to substitute
                differing = [field for field in differing if field != "residual_substitute"]
            assert (frozenset((one.name, other.name)) in compared) == (len(differing) == 1)
    names = [(first.name, second.name) for first, second in pairs]
    assert ("nope-causal", "learned-causal") in names
    assert ("forward-0", "no-residual-0") in names
    assert ("nope-causal-1-layer", "nope-causal") in names


def test_other_settings_and_other_tasks_forbid_a_comparison_unless_it_is_declared() -> None:
    params = made_up({"nope-causal": [1.0], "learned-causal": [1.0]}, declared=[])
    params.ablations["nope-causal"].training["learning_rate"] = 0.5
    assert contrasts.contrast_pairs(params.all_ablations(), []) == []
    declared = [Comparison(first="learned-causal", second="nope-causal")]
    assert len(contrasts.contrast_pairs(params.all_ablations(), declared)) == 1


def test_runs_are_not_paired_by_seed() -> None:
    estimates = estimates_of({"nope-causal": [0.9, 0.8, 0.7], "learned-causal": [0.8, 0.7]}, declared=[])
    difference = find(estimates, "test_exact_match", "nope-causal", versus="learned-causal")
    assert difference.value == pytest.approx(0.8 - 0.75)
    assert difference.row["n"] == 2
    assert difference.p_text() == ""
    assert pd.isna(difference.row["p"])


def test_a_bound_says_in_which_direction_the_censored_runs_move_the_difference() -> None:
    scores = {"nope-causal": [1.0, 1.0, 0.5], "learned-causal": [1.0, 1.0, 1.0], "null": [1.0, 1.0, 0.5]}
    estimates = estimates_of(scores, declared=[])
    first = find(estimates, "restricted_steps", "nope-causal", versus="learned-causal")
    both = find(estimates, "restricted_steps", "nope-causal", versus="null")
    assert str(first).startswith("at least")
    assert str(first.negated()).startswith("at most")
    assert first.negated().negated().row == first.row
    assert str(both).startswith("up to the budget")


def test_ablations_scored_in_bits_may_have_different_budgets() -> None:
    """They have steps to their target, but none to 50 and 90 %, and no area above the curve."""
    sizes = {"train_size": 40, "validation_size": 20, "test_size": 20}
    task = parse_task({"name": "series", "window": 6, "bins": 4} | sizes)
    ablations, tables = [], []
    for name, budget in (("nope", 2000), ("learned", 1000)):
        short = training(steps=budget, evaluate_every=100, converged_at_bits=2.0, warmup_steps=1)
        model_ = ablation(name, positional={"nope": "none"}.get(name, name))
        ablations.append(model_.model_copy(update={"task": task, "dataset": "series", "training": short}))
        columns = {"ablation": name, "proved": 0, "steps_to_converge": budget / 2, "test_bits": 1.5}
        tables.append(pd.DataFrame({"seed": [1, 2], **columns}))
    results = Results(ablations, [], pd.concat(tables), pd.DataFrame(), pd.DataFrame())
    rows = {row["quantity"]: row for row in contrasts.differences(results)}
    assert set(rows) == {"restricted_steps", "test_bits", "steps_ratio"}
    assert abs(rows["restricted_steps"]["value"]) == 500


def test_a_declared_comparison_is_reported_even_where_no_run_converged() -> None:
    """Other comparisons, whose difference would be 0, are left out."""
    scores = {"nope-causal": [0.5] * 3, "learned-causal": [0.4] * 3, "null": [0.3] * 3}
    rows = estimates_of(scores).select("restricted_steps")
    assert rows.loc[rows["versus"] != "", ["ablation", "versus", "value"]].to_numpy().tolist() == [
        ["nope-causal", "learned-causal", 0]
    ]


def test_states_are_compared_with_those_of_the_intact_ablation(results: Results, estimates: Estimates) -> None:
    by_name = {ablation.name: ablation for ablation in results.ablations}
    rows = estimates.select("effective_rank")
    rows = rows[rows["versus"] != ""]
    assert set(rows["ablation"]) == {name for name, ablation in by_name.items() if not switches.is_intact(ablation)}
    for first, second in rows[["ablation", "versus"]].to_numpy():
        assert switches.is_intact(by_name[second])
        assert by_name[first].model.positional == by_name[second].model.positional


def test_a_substitute_as_good_as_the_connection_gives_back_everything_and_none_nothing() -> None:
    scores = {"nope-causal": [1.0] * 3, "no-residual-0": [0.5] * 3, "forward-0": [1.0] * 3}
    rescue = find(estimates_of(scores, declared=[]), "rescue", "forward-0")
    assert rescue.value == 1
    nothing = find(estimates_of({**scores, "forward-0": [0.5] * 3}, declared=[]), "rescue", "forward-0")
    assert nothing.value == 0
    assert set(ABLATIONS) >= set(scores)


def corrected(runs: Sequence[int], declared: int, p: float | None = None) -> pd.DataFrame:
    """Declared comparisons with so many runs each, with the smallest p there is unless `p` is given."""
    comparisons = [Comparison(first=f"a{index}", second="b") for index in range(declared)]
    rows = [
        {"quantity": quantity, "n": n, "p": smallest_p_value(n, n) if p is None else p, "p_corrected": np.nan}
        for quantity in ("restricted_steps", "log_rank", "steps_to_50")
        for n in runs
    ]
    described = {"quantity": "test_exact_match", "n": 8, "p": np.nan, "p_corrected": np.nan}
    table = pd.DataFrame([*rows, described]).astype({"n": "Int64"})
    return contrasts.correct_p_values(table, comparisons)


@pytest.mark.parametrize(
    ("runs", "count", "decided"), [(8, 1, True), (8, 300, True), (4, 1, True), (4, 2, False), (3, 1, False)]
)
def test_no_p_value_where_it_could_not_decide(runs: int, count: int, decided: bool) -> None:
    steps = corrected([runs] * count, count).query("quantity == 'restricted_steps'")
    assert steps["p"].notna().all() == decided
    assert (steps["p_corrected"] < DECIDED_LEVEL).all() == decided


def test_only_what_is_declared_is_decided_and_holm_counts_all_of_it() -> None:
    smallest = smallest_p_value(8, 8)
    table = corrected([8] * 4, 4)
    assert table.iloc[-1][["p", "p_corrected"]].isna().all()
    for quantity in ("restricted_steps", "steps_to_50", "log_rank"):  # each a family of its own
        rows = table[table["quantity"] == quantity]
        assert rows["p"].tolist() == [pytest.approx(smallest)] * 4
        assert rows["p_corrected"].tolist() == [pytest.approx(4 * smallest)] * 4
    few = corrected([3, 3, 3, 8], 4).query("quantity == 'restricted_steps'")
    assert few["p_corrected"].isna().tolist() == [True, True, True, False]
    assert few["p_corrected"].iloc[3] == pytest.approx(4 * smallest)


def at(value: float, p: float) -> Estimate:
    return Estimate({"value": value, "p_corrected": p})


@pytest.mark.parametrize(
    ("differences", "holds_at"),
    [
        ({"steps_to_50": at(5, 0.01), "steps_to_90": at(5, 0.01), "restricted_steps": at(5, 0.01)}, ["50", "90", "99"]),
        ({"steps_to_50": at(5, 0.3), "steps_to_90": at(5, 0.01), "restricted_steps": at(5, 0.01)}, ["90", "99"]),
        ({"steps_to_50": at(5, 0.3), "steps_to_90": at(5, 0.3), "restricted_steps": at(5, 0.01)}, None),
        ({"steps_to_50": at(-5, 0.3), "steps_to_90": at(5, 0.01), "restricted_steps": at(5, 0.01)}, None),
        ({"steps_to_50": at(5, 0.3), "steps_to_90": at(5, 0.3), "restricted_steps": at(5, 0.3)}, []),
        ({"test_bits": at(5, 0.01)}, [""]),
    ],
)
def test_a_verdict_names_its_thresholds_and_holds_at_more_than_one(
    differences: dict[str, Estimate], holds_at: list[str] | None
) -> None:
    text = tables.verdict(differences, None)
    assert ("depends on the threshold" in text) == (holds_at is None)
    assert ("**decided**" in text) == bool(holds_at)
    assert all(threshold in text for threshold in holds_at or [])


@pytest.mark.parametrize("n", [3, 8])
@pytest.mark.parametrize("truth", [0.05, 0.5, 0.9])
def test_intervals_of_shares_cover(n: int, truth: float) -> None:
    chances = stats.binom(n, truth).pmf(np.arange(n + 1))
    covered = [low <= truth <= high for low, high in (exact_share_interval(k, n) for k in range(n + 1))]
    assert chances[covered].sum() >= 0.95
