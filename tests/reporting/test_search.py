"""What the report of a search says follows from its trials."""

import re
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import switches
from pipeline.params import Ablation
from pipeline.reporting.page import render_html
from pipeline.reporting.style import draw_image
from pipeline.search.page import answer_table, build_page
from pipeline.search.results import SearchResults, select_converged
from pipeline.tasks.registry import read_params
from tests.conftest import PRESETS

PARAMS = read_params(PRESETS.parent.parent / "params.yaml")
IMPORTANCES = {"layers": {"converged": 0.7, "residuals_kept": 0.9}, "residual_free_mlp_0": {"converged": 0.3}}
RUNS = 2
INTEGERS = ["trial", "runs", "converged", "residuals_kept", "parameters", "given_up", "diverged", "repeats", "retries"]

Trial = tuple[Ablation, dict[str, Any]]
"""The ablation that a trial trained, and its row of the table."""
Layers = tuple[int, ...]


def trial(layers: int = 3, converged: int = 2, attention: Layers = (), mlp: Layers = (), **more: Any) -> Trial:
    """`more`: fields of the ablation, or columns of the row."""
    fields = {name: more.pop(name) for name in ("heads", "width", "positional", "optimizer") if name in more}
    free = {"attention": list(attention), "mlp": list(mlp)}
    ablation = PARAMS.trial_ablation({"positional": "none", "layers": layers, "residual_free": free, **fields})
    kept = 2 * layers - len(attention) - len(mlp)
    row = {"state": "complete", **switches.switch_columns(ablation), "runs": RUNS, "converged": converged}
    row |= {"converged_share": converged / RUNS, "score": 0.3 * converged + 0.1, "residuals_kept": kept}
    row |= {"parameters": 1000 * layers, "flops": 1e9 * layers, "steps": 900.0, "given_up": 0, "diverged": 0}
    row |= {"repeats": None, "retries": None}
    return ablation, row | more


def results(*trials: Trial, size: int | None = 340) -> SearchResults:
    """Results as they come from the storage: with integers that may be missing."""
    names = ["trial", *trial()[1]]
    rows = [{"trial": number, **row} for number, (_, row) in enumerate(trials)]
    table = pd.DataFrame(rows, columns=names).astype(dict.fromkeys(INTEGERS, "Int64"))
    ablations = {n: ablation for n, (ablation, _) in enumerate(trials)}
    return SearchResults("search-1", PARAMS, table, ablations, PARAMS.search.trials, size, IMPORTANCES)


def page_text(search: SearchResults) -> str:
    return build_page(search, ["a: {}"])[0]


def trials_of_depth(layers: int) -> st.SearchStrategy[Trial]:
    free = st.sets(st.integers(0, layers - 1)).map(lambda chosen: tuple(sorted(chosen)))
    return st.builds(
        trial,
        st.just(layers),
        st.integers(0, RUNS),
        free,
        free,
        heads=st.sampled_from([2, 4]),
        positional=st.sampled_from(["none", "learned", "rotary"]),
        optimizer=st.sampled_from(["muon", "adamw"]),
        score=st.sampled_from([0.1, 0.5, 0.9]),
        state=st.sampled_from(["complete"] * 4 + ["failed", "running", "waiting"]),
        repeats=st.sampled_from([None, None, None, 0]),
    )


SEARCHES = st.lists(st.integers(1, 4).flatmap(trials_of_depth), max_size=20).map(lambda drawn: results(*drawn))
BUSY = (
    *(trial(1 + n % 4, n % 3 if n % 4 else 0, *[((), ()), ((0,), ()), ((0,), (0,))][n % 3]) for n in range(12)),
    trial(2, 0, (0, 1), (0, 1), given_up=1, diverged=1),
    trial(2, 2, (1,), (0, 1)),
    trial(2, 2, (1,), (0, 1), repeats=13),
    trial(4, 2, state="failed"),
    trial(4, 2, (0, 1), (2, 3), retries=15),
    trial(3, 1, (2,), (2,), heads=2),
)


@settings(max_examples=15)
@given(SEARCHES)
def test_the_front_is_what_nothing_dominates(search: SearchResults) -> None:
    known = search.distinct_trials[["trial", "converged_share", "residuals_kept"]].to_numpy(float).tolist()
    front = set(search.pareto_front()["trial"])
    for trial, share, kept in known:
        beaten = any(more >= share and fewer <= kept and [more, fewer] != [share, kept] for _, more, fewer in known)
        assert (trial in front) == (not beaten)


@settings(max_examples=15)
@given(SEARCHES)
def test_only_complete_trials_count_and_each_configuration_once(search: SearchResults) -> None:
    known = search.distinct_trials
    assert (known["state"] == "complete").all()
    assert known["repeats"].isna().all()
    configurations = [(search.ablations[n].model, search.ablations[n].training) for n in known["trial"]]
    assert all(configurations.count(configuration) == 1 for configuration in configurations)
    assert search.depth_table()["tried"].sum() == len(known)


@settings(max_examples=15)
@given(SEARCHES)
def test_the_sparsest_of_a_depth_is_the_fewest_among_those_that_converged(search: SearchResults) -> None:
    for row in search.depth_table().to_dict("records"):
        solved = select_converged(search.distinct_trials[search.distinct_trials["layers"] == row["layers"]])
        solved = solved[solved["positional"] == row["positional"]]
        assert row["solved"] == len(solved)
        kept = row["residuals_kept"]
        assert pd.isna(kept) if solved.empty else kept == solved["residuals_kept"].min()


@settings(max_examples=15)
@given(SEARCHES)
def test_the_map_of_all_depths_is_the_sum_of_the_depths(search: SearchResults) -> None:
    table = search.residual_map_table()
    assert (table["solved"] <= table["lacking"]).all()
    pooled, by_depth = (
        rows.groupby(["layer", "sublayer"])[["lacking", "solved"]].sum()
        for rows in (table[table["layers"].isna()], table[table["layers"].notna()])
    )
    pd.testing.assert_frame_equal(pooled, by_depth)


def test_the_answer_is_the_shallowest_and_the_sparsest() -> None:
    search = results(*BUSY)
    best = search.best_trials("none")
    assert best["shallowest"]["layers"] == 2
    assert (best["sparsest"]["residuals_kept"], best["sparsest"]["trial"]) == (1, 13)
    answer = answer_table(search).set_index("Configuration")["Best in"]
    (sparsest,) = [words for name, words in answer.items() if str(name).startswith("trial 13:")]
    assert "fewest residual connections" in sparsest
    course = page_text(search)
    for count in ("17 complete", "1 failed", "1 run again after a worker was lost", "1 stopped early"):
        assert count in course
    assert "sampled, not tried in full" in course
    assert "sampled, not tried in full" not in page_text(results(trial(2, 2), trial(2, 0, (0,)), size=2))


def test_one_layer_never_converges_and_is_an_alarm_if_it_does() -> None:
    alarm = "BUG IN THE INSTRUMENT"
    assert alarm not in page_text(results(trial(1, 0), trial(1, 0, (0,)), trial(2, 2)))
    assert alarm in page_text(results(trial(1, 0), trial(1, 1, (0,)), trial(2, 2)))
    assert alarm not in page_text(results(trial(1, 2, positional="learned")))


@pytest.mark.parametrize(
    "trials", [(), (trial(state="failed"), trial(state="running")), (trial(2, 1), trial(3, 0)), (trial(2, 2),), BUSY]
)
def test_any_search_makes_a_page(trials: tuple[Trial, ...]) -> None:
    text, pictures = build_page(results(*trials), ["a: {}"])
    images = {f"figures/{picture.name}.webp": draw_image(picture.draw) for picture in pictures}
    assert set(re.findall(r"\((figures/[^)]+)\)", text)) == set(images)
    assert "<html" in render_html("Search", text, images)
    assert ("no answer yet" in text) == (not any(row["state"] == "complete" for _, row in trials))


def test_the_answer_quotes_fresh_seeds_where_there_are_any() -> None:
    search = results(*BUSY)
    runs = pd.DataFrame({"converged": [1, 0, 1], "steps_to_converge": [400, None, 800], "score": 0.9})
    candidates = search.confirmation_candidates
    assert {int(row["trial"]) for row in search.best_trials("none").values()} <= set(candidates)
    confirmed = replace(search, confirmation_runs=dict.fromkeys(candidates, runs))
    estimates = confirmed.estimates()
    converged, steps = (
        estimates.find(f"fresh_{name}", ablation=f"trial-{candidates[0]}") for name in ("converged", "restricted_steps")
    )
    assert converged is not None
    assert steps is not None
    assert converged.number() == "2 of 3"
    assert steps.value == pytest.approx((400 + 800 + search.params.search.steps) / 3)
    assert "at least" in str(steps)
    assert "Nothing was trained again" in page_text(search)
    assert "Nothing was trained again" not in page_text(confirmed)


def test_the_varied_settings_of_each_trial_are_named() -> None:
    search = results(trial(2, 2), trial(2, 2, heads=2))
    searched = search.params.search.model_copy(update={"space": {**search.params.search.space, "heads": [2, 4]}})
    varied = replace(search, params=search.params.model_copy(update={"search": searched}))
    assert [varied.other_settings_in_words(row) for _, row in varied.trials.iterrows()] == [", 4 heads", ", 2 heads"]
    assert re.search(r"trial 1: 2 layers, every residual connection, 2 heads", page_text(varied))
