"""What is said of a study follows from its trials, and its best cells can be trained as they are."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from ruamel.yaml import YAML

from pipeline.params import Params, read
from pipeline.reporting import figures
from pipeline.reporting.page import html, markdown
from pipeline.reporting.search import answer, report, words
from pipeline.reporting.search import figures as drawn
from tests.conftest import PRESETS

LAPTOP = read(PRESETS / "laptop.yaml")
IMPORTANCES = {"layers": {"converged": 0.7, "residuals_kept": 0.9}, "residual_mlp_0": {"converged": 0.3}}
MEMBERS = 2


def trial(
    number: int = 0, layers: int = 3, converged: int = 2, attention: str = "", mlp: str = "", **more: Any
) -> dict:
    kept = 2 * layers - len(attention.split()) - len(mlp.split())
    row = {
        "trial": number,
        "state": "complete",
        "layers": layers,
        "heads": 4,
        "width": 48,
        "learning_rate": 0.01,
        "optimizer": "muon",
        "positional": "none",
        "attention": "causal",
        "residual_free_attention": attention,
        "residual_free_mlp": mlp,
        "members": MEMBERS,
        "converged": converged,
        "converged_share": converged / MEMBERS,
        "validation_exact_match": 0.3 * converged + 0.1,
        "residuals_kept": kept,
        "parameters": 1000 * layers,
        "flops": 1e9 * layers,
        "steps": 900.0,
        "given_up": 0,
        "diverged": 0,
        "repeats": None,
        "retries": None,
    }
    return row | more


def study(*rows: dict) -> pd.DataFrame:
    """As it comes from the storage: whole numbers that may be missing."""
    whole = ["layers", "heads", "width", "members", "converged", "residuals_kept", "parameters", "given_up", "diverged"]
    return pd.DataFrame(rows, columns=list(trial())).astype(dict.fromkeys([*whole, "repeats", "retries"], "Int64"))


def told(trials: pd.DataFrame, params: Params = LAPTOP, size: int | None = 340) -> str:
    page, _ = report.page(params, trials, study="search-1", space_size=size, importances=IMPORTANCES)
    return markdown(page)


def layer_lists(layers: int) -> st.SearchStrategy[str]:
    return st.sets(st.integers(0, layers - 1)).map(lambda chosen: " ".join(map(str, sorted(chosen))))


@st.composite
def rows(draw: st.DrawFn, kept_back: bool = True) -> dict:
    layers = draw(st.integers(1, 4))
    optimizer = draw(st.sampled_from(["muon", "adamw"]))
    more = {
        "heads": draw(st.sampled_from([2, 4])),
        "width": draw(st.sampled_from([32, 48])),
        "positional": draw(st.sampled_from(["none", "learned", "rotary"])),
        "learning_rate": draw(st.sampled_from([0.01, 0.001, 1e-05])),
        "validation_exact_match": draw(st.sampled_from([0.1, 0.5, 0.9])),
    }
    if kept_back:
        more["state"] = draw(st.sampled_from(["complete"] * 4 + ["failed", "running", "waiting"]))
        more["repeats"] = draw(st.sampled_from([None, None, None, 0]))
    free = draw(layer_lists(layers)), draw(layer_lists(layers))
    return trial(0, layers, draw(st.integers(0, MEMBERS)), *free, optimizer=optimizer, **more)


STUDIES = st.lists(rows(), max_size=25).map(lambda every: study(*(row | {"trial": n} for n, row in enumerate(every))))
BUSY = study(
    *(trial(n, 1 + n % 4, n % 3 if n % 4 else 0, *[("", ""), ("0", ""), ("0", "0")][n % 3]) for n in range(12)),
    trial(12, 2, 0, "0 1", "0 1", given_up=1, diverged=1),
    trial(13, 2, 2, "1", "0 1"),
    trial(14, 2, 2, "1", "0 1", repeats=13),
    trial(15, 4, 2, state="failed"),
    trial(16, 4, 2, "0 1", "2 3", retries=15),
    trial(17, 3, 1, "2", "2", heads=2),
)


@settings(max_examples=15)
@given(STUDIES, st.sampled_from(["residuals_kept", "parameters", "flops"]))
def test_the_front_is_what_nothing_dominates(trials: pd.DataFrame, minimized: str) -> None:
    def result(table: pd.DataFrame) -> list[tuple[float, float]]:
        return [(float(s), -float(m)) for s, m in zip(table["converged_share"], table[minimized], strict=True)]

    front, known = result(answer.pareto_front(trials, minimized)), result(answer.evidence(trials))
    assert not any(a != b and a[0] >= b[0] and a[1] >= b[1] for a in front for b in front)
    assert all(any(a[0] >= b[0] and a[1] >= b[1] for a in front) for b in known)
    assert sum(one in front for one in known) == len(front)


@settings(max_examples=15)
@given(STUDIES)
def test_the_sparsest_of_a_depth_is_the_fewest_among_those_that_converged(trials: pd.DataFrame) -> None:
    known = answer.evidence(trials)
    table = answer.sparsest_by_depth(trials)
    assert list(table["layers"]) == sorted(set(known["layers"]))
    for _, row in table.iterrows():
        full = [t for _, t in known[known["layers"] == row["layers"]].iterrows() if t["converged"] == t["members"]]
        assert row["solved"] == len(full)
        if not full:
            assert pd.isna(row["trial"])
            continue
        fewest = min(t["residuals_kept"] for t in full)
        exact = max(t["validation_exact_match"] for t in full if t["residuals_kept"] == fewest)
        found = known.set_index("trial").loc[row["trial"]]
        assert (found["residuals_kept"], found["validation_exact_match"]) == (fewest, exact)
        assert row["residuals_kept"] == fewest
    depths = [int(row["layers"]) for _, row in table.iterrows() if row["solved"]]
    assert answer.shallowest(trials) == min(depths, default=None)


@settings(max_examples=15)
@given(STUDIES)
def test_only_complete_trials_count_and_each_configuration_once(trials: pd.DataFrame) -> None:
    known = answer.evidence(trials)
    assert set(known["state"]) <= {"complete"}
    assert known["repeats"].isna().all()
    assert not known.duplicated(list(answer.CONFIGURATION)).any()
    for table in (answer.pareto_front, answer.sparsest_by_depth, answer.residual_map, answer.ranked):
        pd.testing.assert_frame_equal(table(trials), table(known))


@settings(max_examples=15)
@given(STUDIES)
def test_the_map_of_all_depths_is_the_sum_of_the_depths(trials: pd.DataFrame) -> None:
    table = answer.residual_map(trials)
    assert (table["solved"] <= table["lacking"]).all()
    pooled = table["layers"].isna()
    keys, counts = ["layer", "sublayer"], ["lacking", "solved"]
    each = table[~pooled].groupby(keys)[counts].sum()
    pd.testing.assert_frame_equal(table[pooled].groupby(keys)[counts].sum(), each)


@settings(max_examples=15)
@given(rows(kept_back=False))
def test_a_stanza_makes_the_cell_that_the_trial_trained(row: dict) -> None:
    line = report.stanzas(study(row), LAPTOP.model, LAPTOP.training)
    added = YAML(typ="safe", pure=True).load(line)
    (name,) = added
    params = Params.model_validate(LAPTOP.model_dump() | {"ablations": LAPTOP.ablations | added})
    cell = params.cell(name)
    for key in ("layers", "heads", "width", "positional", "attention"):
        assert getattr(cell.model, key) == row[key]
    for sublayer in answer.SUBLAYERS:
        free = getattr(cell.model.residual_free, sublayer)
        assert " ".join(map(str, free)) == row[f"residual_free_{sublayer}"]
    changed = {"optimizer": row["optimizer"], "learning_rate": row["learning_rate"]}
    assert cell.training == LAPTOP.training.model_copy(update=changed)
    for kind, overrides in added[name].items():
        base = getattr(LAPTOP, kind)
        assert all(getattr(getattr(cell, kind), key) != getattr(base, key) for key in overrides)


@settings(max_examples=15)
@given(rows(kept_back=False), rows(kept_back=False))
def test_the_same_name_means_the_same_configuration(one: dict, other: dict) -> None:
    names = [answer.stanza(pd.Series(row), LAPTOP.model, LAPTOP.training)[0] for row in (one, other)]
    same = all(one[column] == other[column] for column in answer.CONFIGURATION)
    assert (names[0] == names[1]) == same


def test_a_stanza_is_named_by_what_it_lacks() -> None:
    name, overrides = answer.stanza(pd.Series(trial(7, 3, 2, "0", "1 2")), LAPTOP.model, LAPTOP.training)
    assert name == "search-3-layers-no-residual-attention-0-mlp-1-2"
    assert overrides == {"model": {"positional": "none", "residual_free": {"attention": [0], "mlp": [1, 2]}}}


def test_the_answer_is_the_shallowest_and_the_sparsest() -> None:
    text = told(BUSY)
    assert "has **2 layers**" in text
    assert "keeps **1 of 4 residual connections**: trial 13" in text
    assert "2 of 2 (95% interval 16% to 100%) members" in text
    assert "1 trial repeated" in text
    assert "sampled, not tried in full" in text
    assert "search-2-layers-no-residual-attention-1-mlp-0-1: {model: {" in text


def test_one_layer_never_converges_and_is_an_alarm_if_it_does() -> None:
    blind = study(trial(0, 1, 0), trial(1, 1, 0, "0"), trial(2, 2, 2))
    assert "One layer without positional encoding **never converged** in 2 configurations, in 0 of 4 " in told(blind)
    assert words.alarms(blind, LAPTOP.model) == []
    leaking = study(trial(0, 1, 0), trial(1, 1, 1, "0"), trial(2, 2, 2))
    assert len(words.alarms(leaking, LAPTOP.model)) == 1
    assert "BUG IN THE INSTRUMENT" in told(leaking)
    assert "never converged" not in told(leaking)
    assert words.alarms(study(trial(0, 1, 2, positional="learned")), LAPTOP.model) == []
    assert words.alarms(study(trial(0, 1, 2, repeats=3)), LAPTOP.model) == []


@pytest.mark.parametrize(
    ("trials", "says"),
    [
        (study(), "No trial is complete"),
        (study(trial(state="failed"), trial(1, state="running")), "No trial is complete"),
        (study(trial(0, 2, 1), trial(1, 3, 0)), "**No configuration without positional encoding converged in every"),
        (study(trial(0, 2, 2)), "has **2 layers**: 1 of 1 configuration"),
        (BUSY, "keeps **1 of 4 residual"),
    ],
)
@pytest.mark.parametrize("minimized", ["residuals_kept", "parameters", "flops"])
def test_any_study_makes_a_page(trials: pd.DataFrame, says: str, minimized: str) -> None:
    search = LAPTOP.search.model_copy(update={"minimize": minimized})
    params = LAPTOP.model_copy(update={"search": search})
    assert says in told(trials, params, size=None)
    page, images = report.page(params, trials, study="search-1", space_size=340, importances=IMPORTANCES)
    assert says in markdown(page)
    assert "<html" in html(page, images)
    named = {figure.name for part in page.sections for figure in part.figures} | {page.figure.name}
    assert named == set(images)
    for part in page.sections:
        for table in part.tables:
            assert table.rows
            assert {len(row) for row in table.rows} == {len(table.headers)}


def test_a_space_tried_in_full_is_said_to_be() -> None:
    assert "The whole space was tried" in told(study(trial(0, 2, 2), trial(1, 2, 0, "0")), size=2)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: drawn.pareto(BUSY, "residuals_kept"),
        lambda: drawn.pareto(BUSY, "parameters"),
        lambda: drawn.residual_map(BUSY),
        lambda: drawn.history(BUSY, "residuals_kept"),
        lambda: drawn.importances(IMPORTANCES),
    ],
)
def test_the_same_study_gives_the_same_picture(draw: Callable[[], Figure]) -> None:
    first, second = figures.png(draw), figures.png(draw)
    assert first == second
    assert first.startswith(b"\x89PNG")
