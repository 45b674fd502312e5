"""What is said of a study follows from its trials."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from pipeline import switches as described
from pipeline.params import Ablation, read
from pipeline.reporting import style
from pipeline.reporting.claims import Claim
from pipeline.reporting.page import html, markdown
from pipeline.reporting.search import figures, report
from pipeline.reporting.search.study import SUBLAYERS, Study, solved_of
from tests.conftest import PRESETS

PARAMS = read(PRESETS.parent.parent / "params.yaml")
IMPORTANCES = {"layers": {"converged": 0.7, "residuals_kept": 0.9}, "residual_free_mlp_0": {"converged": 0.3}}
MEMBERS = 2
WHOLE = ["trial", "members", "converged", "residuals_kept", "parameters", "given_up", "diverged", "repeats", "retries"]

Trial = tuple[Ablation, dict[str, Any]]
"""What was trained, and its row."""


def trial(
    layers: int = 3, converged: int = 2, attention: tuple[int, ...] = (), mlp: tuple[int, ...] = (), **more: Any
) -> Trial:
    """`more`: fields of the ablation, or columns of the row."""
    switches = {name: more.pop(name) for name in ("heads", "width", "positional", "optimizer") if name in more}
    free = {"attention": list(attention), "mlp": list(mlp)}
    ablation = PARAMS.trial_ablation({"positional": "none", "layers": layers, "residual_free": free, **switches})
    row = {
        "state": "complete",
        **described.columns(ablation),
        "members": MEMBERS,
        "converged": converged,
        "converged_share": converged / MEMBERS,
        "score": 0.3 * converged + 0.1,
        "residuals_kept": 2 * layers - len(attention) - len(mlp),
        "parameters": 1000 * layers,
        "flops": 1e9 * layers,
        "steps": 900.0,
        "given_up": 0,
        "diverged": 0,
        "repeats": None,
        "retries": None,
    }
    return ablation, row | more


def study(*trials: Trial, size: int | None = 340) -> Study:
    """As it comes from the storage: whole numbers that may be missing."""
    names = ["trial", *trial()[1]]
    rows = [{"trial": number, **row} for number, (_, row) in enumerate(trials)]
    table = pd.DataFrame(rows, columns=names).astype(dict.fromkeys(WHOLE, "Int64"))
    ablations = {n: ablation for n, (ablation, _) in enumerate(trials)}
    return Study("search-1", PARAMS, table, ablations, PARAMS.search.trials, size, IMPORTANCES)


def told(found: Study) -> str:
    return markdown(report.page(found, report.claims(found), ["a: {}"]))


def claimed(found: Study, sentence: str) -> list[Claim]:
    return [claim for claim in report.claims(found) if claim.sentence == sentence]


@st.composite
def trials(draw: st.DrawFn) -> Trial:
    layers = draw(st.integers(1, 4))
    free = st.sets(st.integers(0, layers - 1)).map(lambda chosen: tuple(sorted(chosen)))
    return trial(
        layers,
        draw(st.integers(0, MEMBERS)),
        draw(free),
        draw(free),
        heads=draw(st.sampled_from([2, 4])),
        positional=draw(st.sampled_from(["none", "learned", "rotary"])),
        optimizer=draw(st.sampled_from(["muon", "adamw"])),
        score=draw(st.sampled_from([0.1, 0.5, 0.9])),
        state=draw(st.sampled_from(["complete"] * 4 + ["failed", "running", "waiting"])),
        repeats=draw(st.sampled_from([None, None, None, 0])),
    )


STUDIES = st.lists(trials(), max_size=20).map(lambda every: study(*every))
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
@given(STUDIES)
def test_the_front_is_what_nothing_dominates(found: Study) -> None:
    front = found.pareto_front()
    known = found.evidence
    for _, one in known.iterrows():
        beaten = (
            (known["converged_share"] >= one["converged_share"])
            & (known["residuals_kept"] <= one["residuals_kept"])
            & ((known["converged_share"] > one["converged_share"]) | (known["residuals_kept"] < one["residuals_kept"]))
        ).any()
        assert (one["trial"] in set(front["trial"])) == (not beaten)


@settings(max_examples=15)
@given(STUDIES)
def test_only_complete_trials_count_and_each_configuration_once(found: Study) -> None:
    known = found.evidence
    assert (known["state"] == "complete").all()
    assert known["repeats"].isna().all()
    configurations = [(found.ablations[n].model, found.ablations[n].training) for n in known["trial"]]
    assert all(configurations.count(one) == 1 for one in configurations)
    assert found.depths()["tried"].sum() == len(known)


@settings(max_examples=15)
@given(STUDIES)
def test_the_sparsest_of_a_depth_is_the_fewest_among_those_that_converged(found: Study) -> None:
    for row in found.depths().to_dict("records"):
        solved = solved_of(found.evidence[found.evidence["layers"] == row["layers"]])
        solved = solved[solved["positional"] == row["positional"]]
        assert row["solved"] == len(solved)
        assert (
            pd.isna(row["residuals_kept"]) if solved.empty else row["residuals_kept"] == solved["residuals_kept"].min()
        )


@settings(max_examples=15)
@given(STUDIES)
def test_the_map_of_all_depths_is_the_sum_of_the_depths(found: Study) -> None:
    table = found.residual_map()
    assert (table["solved"] <= table["lacking"]).all()
    pooled = table["layers"].isna()
    keys, counts = ["layer", "sublayer"], ["lacking", "solved"]
    each = table[~pooled].groupby(keys)[counts].sum()
    pd.testing.assert_frame_equal(table[pooled].groupby(keys)[counts].sum(), each)
    assert set(table["sublayer"]) <= set(SUBLAYERS)


def test_the_answer_is_the_shallowest_and_the_sparsest() -> None:
    found = study(*BUSY)
    (shallowest,), (sparsest,), (course,) = (claimed(found, name) for name in ("shallowest", "sparsest", "course"))
    assert shallowest.estimates["layers"].value == 2
    assert (sparsest.estimates["kept"].value, sparsest.words["trial"]) == (1, 13)
    assert sparsest.estimates["converged"].n == MEMBERS
    counted = {name: course.estimates[name].value for name in ("complete", "failed", "retried", "given_up", "diverged")}
    assert counted == {"complete": 17, "failed": 1, "retried": 1, "given_up": 1, "diverged": 1}
    assert "sampled, not tried in full" in told(found)


def test_one_layer_never_converges_and_is_an_alarm_if_it_does() -> None:
    blind = study(trial(1, 0), trial(1, 0, (0,)), trial(2, 2))
    (claim,) = claimed(blind, "blind")
    assert (claim.estimates["configurations"].value, claim.estimates["converged"].n) == (2, 4)
    assert not claimed(blind, "leak")
    leaking = study(trial(1, 0), trial(1, 1, (0,)), trial(2, 2))
    assert [(claim.words["trial"], claim.role) for claim in claimed(leaking, "leak")] == [(1, "alarm")]
    assert "BUG IN THE INSTRUMENT" in told(leaking)
    assert not claimed(leaking, "blind")
    assert not claimed(study(trial(1, 2, positional="learned")), "leak")
    assert not claimed(study(trial(1, 2, repeats=3)), "leak")


@pytest.mark.parametrize(
    ("made", "leads"),
    [
        ((), ["nothing"]),
        ((trial(state="failed"), trial(state="running")), ["nothing"]),
        ((trial(2, 1), trial(3, 0)), ["unsolved"]),
        ((trial(2, 2),), ["shallowest", "sparsest"]),
        (BUSY, ["shallowest", "sparsest", "blind"]),
    ],
)
def test_any_study_makes_a_page(made: tuple[Trial, ...], leads: list[str]) -> None:
    found = study(*made)
    claims = report.claims(found)
    assert [claim.sentence for claim in claims if claim.role == "lead"] == leads
    page, images = report.page(found, claims, ["a: {}"]), report.images(found)
    assert "<html" in html(page, images)
    named = {figure.name for part in page.sections for figure in part.figures} | {page.figure.name}
    assert named == set(images)
    for part in page.sections:
        for table in part.tables:
            assert table.rows
            assert {len(row) for row in table.rows} == {len(table.headers)}
    for record in report.record(found, claims):
        assert record.source.file in found.tables
        assert record.source.column in found.tables[record.source.file]


def test_every_number_of_the_answer_is_one_of_the_tables() -> None:
    found = study(*BUSY)
    for record in report.record(found, report.claims(found)):
        rows = found.tables[record.source.file]
        for name, value in record.source.where.items():
            rows = rows[rows[name].isin(value if isinstance(value, list) else [value])]
        expected = len(rows) if record.source.statistic == "rows" else rows[record.source.column].astype(float).sum()
        assert record.value == pytest.approx(expected), record


def test_the_answer_quotes_fresh_seeds_where_there_are_any() -> None:
    found = study(*BUSY)
    assert "not trained again" in told(found)
    steps = [400, None, 800]
    members = pd.DataFrame({"converged": [1, 0, 1], "steps_to_converge": steps, "score": 0.9})
    confirmed = replace(found, confirmed=dict.fromkeys(found.candidates, members))
    (sparsest,) = claimed(confirmed, "sparsest")
    assert (sparsest.estimates["again"].value, sparsest.estimates["again"].n) == (2, 3)
    assert sparsest.estimates["steps"].value == pytest.approx((400 + 800 + found.params.search.steps) / 3)
    assert "not trained again" not in told(confirmed)
    assert not claimed(confirmed, "unconfirmed")
    assert {claim.words["trial"] for name in ("shallowest", "sparsest") for claim in claimed(found, name)} <= set(
        found.candidates
    )


def test_a_space_tried_in_full_is_said_to_be() -> None:
    assert "The whole space was tried" in told(study(trial(2, 2), trial(2, 0, (0,)), size=2))


def test_what_a_study_varies_is_said_of_each_trial() -> None:
    found = study(trial(2, 2), trial(2, 2, heads=2))
    searched = found.params.search.model_copy(update={"space": {**found.params.search.space, "heads": [2, 4]}})
    varied = replace(found, params=found.params.model_copy(update={"search": searched}))
    assert [varied.settings(row) for _, row in varied.trials.iterrows()] == [", 4 heads", ", 2 heads"]
    assert re.search(r"trial 1: 2 layers, every residual connection, 2 heads", told(varied))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.pareto(study(*BUSY)),
        lambda: figures.residual_map(study(*BUSY)),
        lambda: figures.importances(IMPORTANCES),
    ],
)
def test_the_same_study_gives_the_same_picture(draw: Callable[[], Figure]) -> None:
    first, second = style.png(draw), style.png(draw)
    assert first == second
    assert first.startswith(b"\x89PNG")
