"""Outcomes of runs, computed from a history; training, file and curve agree on when a run converged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import files
from pipeline.training.convergence import (
    LEVELS,
    Convergence,
    compute_mean_learning_curve,
    compute_run_outcomes,
    history_columns,
)
from pipeline.training.fit import fit
from tests.conftest import ablation, easy

RULE = Convergence(0.99, 200)


def history(*rows: tuple[int, int, float, int]) -> pd.DataFrame:
    """Return a history of rows (seed, step, validation exact match, diverged)."""
    records = [
        {"seed": seed, "step": step, "validation_exact_match": exact, "diverged": diverged}
        for seed, step, exact, diverged in rows
    ]
    return pd.DataFrame(records, columns=history_columns())


def test_a_row_per_seed_in_order_of_appearance() -> None:
    table = compute_run_outcomes(history((7, 50, 0.1, 0), (3, 50, 0.2, 0), (7, 100, 0.3, 0), (3, 100, 0.4, 0)), RULE)
    assert table[["seed", "steps", "validation_exact_match"]].to_numpy().tolist() == [[7, 100, 0.3], [3, 100, 0.4]]


@pytest.mark.parametrize(("in_a_row", "converged"), [(1, 50), (2, 150), (3, 150), (4, None)])
def test_a_run_converged_at_the_first_of_the_evaluations_in_a_row(in_a_row: int, converged: int | None) -> None:
    """A later, worse evaluation does not undo it."""
    shares = {50: 0.99, 100: 0.98, 150: 0.99, 200: 1.0, 250: 0.99, 300: 0.5}
    table = compute_run_outcomes(
        history(*((1, step, share, 0) for step, share in shares.items())), replace(RULE, evaluations_in_a_row=in_a_row)
    )
    assert table["converged"].tolist() == [int(converged is not None)]
    assert table["steps_to_converge"].astype("string").fillna("").tolist() == [str(converged or "")]
    assert table[["steps", "validation_exact_match"]].to_numpy(float).tolist() == [[300, 0.5]]


@given(runs=st.lists(st.lists(st.sampled_from([0.98, 0.99, 1.0]), min_size=6, max_size=6), min_size=1, max_size=4))
def test_convergence_of_several_runs_is_that_of_each(runs: list[list[float]]) -> None:
    rule = replace(RULE, evaluations_in_a_row=2)
    converged = rule.has_converged(np.array(runs).T)
    assert converged.T.tolist() == [rule.has_converged(run).tolist() for run in runs]
    pairs = [np.convolve(np.array(run) >= 0.99, [1, 1])[:6] == 2 for run in runs]
    assert (np.diff(converged.astype(int), axis=0) >= 0).all()
    assert converged[-1].tolist() == [bool(pair.any()) for pair in pairs]


@given(scores=st.lists(st.sampled_from([0.98, 0.99, 1.0]), min_size=8, max_size=8), uncounted=st.integers(0, 8))
def test_uncounted_evaluations_are_as_good_as_wrong(scores: list[float], uncounted: int) -> None:
    rule = replace(RULE, evaluations_in_a_row=2)
    ignored = np.array([0.0] * uncounted + scores[uncounted:])
    expected = rule.has_converged(ignored).tolist()
    assert replace(rule, uncounted_evaluations=uncounted).has_converged(np.array(scores)).tolist() == expected


@pytest.mark.parametrize(("until", "uncounted"), [(None, 0), (1, 0), (4, 0), (5, 1), (8, 1), (9, 2)])
def test_evaluations_count_from_the_step_from_which_training_sees_the_final_network(
    until: int | None, uncounted: int
) -> None:
    chosen = ablation(model_={"positional": "learned", "positional_until": until}, steps=16, evaluate_every=4)
    assert Convergence.for_ablation(chosen).uncounted_evaluations == uncounted


def test_until_the_encoding_is_dropped_training_is_that_with_the_encoding(make_dataset) -> None:
    kept, dropped = (
        ablation(model_={"positional": "learned", "positional_until": until}, steps=16, seeds=[1, 2])
        for until in (None, 8)
    )
    data = make_dataset(kept.task)
    histories = [fit(chosen, data).history.set_index(["step", "seed"])["train_loss"] for chosen in (kept, dropped)]
    same = histories[0] == histories[1]
    assert same[[4, 8]].all()
    assert not same[[12, 16]].any()


def test_a_run_that_did_not_converge_has_no_step() -> None:
    """Steps stay whole numbers beside it."""
    table = compute_run_outcomes(history((1, 50, 1.0, 0), (2, 50, 0.5, 0), (3, 50, 0.0, 1)), RULE)
    assert table["converged"].tolist() == [1, 0, 0]
    assert table["steps_to_converge"].astype("string").fillna("").tolist() == ["50", "", ""]
    assert table["diverged"].tolist() == [0, 0, 1]


def test_outcomes_do_not_depend_on_other_runs() -> None:
    first, second = history((1, 50, 0.5, 0), (1, 100, 1.0, 0)), history((2, 50, 0.0, 1))
    both = compute_run_outcomes(pd.concat([first, second]), RULE)
    separate = pd.concat([compute_run_outcomes(run, RULE) for run in (first, second)], ignore_index=True)
    pd.testing.assert_frame_equal(both, separate)


SCORES = st.lists(st.integers(0, 200), min_size=1, max_size=12)
"""Numbers of right answers of 200, by evaluation."""


@given(counts=SCORES, in_a_row=st.integers(1, 3), unused=st.integers(0, 5))
def test_lower_levels_are_reached_earlier_and_the_area_is_between_none_and_the_budget(
    counts: list[int], in_a_row: int, unused: int
) -> None:
    rows = [(1, 50 * index, count / 200, 0) for index, count in enumerate(counts, start=1)]
    rule = replace(RULE, evaluations_in_a_row=in_a_row, budget=50 * len(rows))
    outcome = compute_run_outcomes(history(*rows), rule).iloc[0]
    steps = [np.inf if pd.isna(step := outcome[name]) else step for name in (*LEVELS, "steps_to_converge")]
    assert steps == sorted(steps)
    assert 0.0 <= outcome["area_above_curve"] <= min(steps[-1], rule.budget)
    worse = history(*((seed, step, share / 2, diverged) for seed, step, share, diverged in rows))
    assert outcome["area_above_curve"] <= compute_run_outcomes(worse, rule)["area_above_curve"].iloc[0]
    if not outcome["converged"]:
        assert outcome["area_above_curve"] == pytest.approx(sum(50 * (1 - count / 200) for count in counts))
        longer = compute_run_outcomes(history(*rows), replace(rule, budget=rule.budget + 50 * unused))
        assert longer["area_above_curve"].iloc[0] == pytest.approx(outcome["area_above_curve"] + 50 * unused)


def test_the_area_of_a_run_that_jumps_to_a_perfect_score_is_the_time_before() -> None:
    for step in (50, 100, 150):
        rows = [(1, at, float(at >= step), 0) for at in (50, 100, 150, 200)]
        assert compute_run_outcomes(history(*rows), RULE)["area_above_curve"].tolist() == [step - 50]


def test_a_run_that_diverged_has_score_zero_to_the_end_of_the_budget() -> None:
    rows = [(1, 50, 0.5, 0), (1, 100, np.nan, 1)]
    outcome = compute_run_outcomes(history(*rows), replace(RULE, budget=1000)).iloc[0]
    assert outcome["area_above_curve"] == 0.5 * 50 + 950


@pytest.mark.parametrize("in_a_row", [1, 2])
def test_training_outcomes_and_curve_agree_on_a_real_run(in_a_row: int, make_dataset, tmp_path: Path) -> None:
    """With a threshold between the runs, so that some stop and others continue; in memory and from a file."""
    data = make_dataset(easy().task)
    every = easy(evaluate_every=10, converged_for=in_a_row)
    history = fit(every, data).history
    before = history.loc[history["step"] == 40, "validation_exact_match"].tolist()
    chosen = easy(evaluate_every=10, converged_for=in_a_row, converged_at=round(max(before), 4))
    learned = fit(chosen, data).history
    files.write_csv(tmp_path / "history.csv", learned)
    rule = Convergence.for_ablation(chosen)
    for history in (learned, pd.read_csv(tmp_path / "history.csv")):
        table, curve = compute_run_outcomes(history, rule), compute_mean_learning_curve(history, rule)
        stopped = table["steps"] < 60  # training decided that these runs had converged
        assert table["steps"].min() == 30 + 10 * in_a_row < table["steps"].max()
        assert (table["steps_to_converge"] == table["steps"] - 10 * (in_a_row - 1))[stopped].all()
        expected = [int((table["steps_to_converge"] + 10 * (in_a_row - 1) <= step).sum()) for step in curve["step"]]
        assert curve["runs_converged"].tolist() == expected
        assert curve["validation_exact_match"].iloc[-1] == pytest.approx(table["validation_exact_match"].mean())
