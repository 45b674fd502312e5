"""Every number of every sentence stands in a written table and follows the results."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.measurement.catalogue import measurements
from pipeline.reporting import page, sentences, wording
from pipeline.reporting.claims import Claim, Estimate, Source, Unit, claim_records, read_number
from pipeline.reporting.experiment import report
from pipeline.reporting.experiment.report import PlacedSection
from pipeline.reporting.experiment.sections import registered_sections
from tests.reporting.experiment import SCORES, STEPS, report_of

Scores = Mapping[str, Sequence[float]]
Measured = dict[str, pd.DataFrame]
Numbers = dict[tuple[str, int, str], float]
"""(Section, index of the claim, name) -> value."""


def numbers(scores: Scores) -> Numbers:
    return {
        (section.name, index, name): estimate.value
        for section in report_of(scores)[0]
        for index, claim in enumerate(section.content.claims)
        for name, estimate in claim.estimates.items()
        if estimate is not None
    }


@pytest.fixture(scope="module")
def usual() -> Numbers:
    """The numbers of `SCORES`."""
    return numbers(SCORES)


def claims_with(role: str, scores: Scores, **options: object) -> list[Claim]:
    sections, _ = report_of(scores, **options)
    return [claim for section in sections for claim in section.content.claims if claim.role == role]


@pytest.fixture(scope="module")
def sections(measured: Measured) -> list[PlacedSection]:
    return report_of(SCORES, measured)[0]


def test_every_claim_is_recomputed_from_the_tables(reports: Path) -> None:
    """By other means than those that made it: plain pandas on the files, scipy for the interval."""
    claims = json.loads((reports / "claims.json").read_text())["claims"]
    assert len(claims) > 40
    for claim in claims:
        source = claim["source"]
        table = pd.read_csv(reports / source["file"], keep_default_na=False, na_values="")
        for column, value in source["where"].items():
            table = table[table[column].isin(value if isinstance(value, list) else [value])]
        if source["statistic"] == "rows":
            assert claim["value"] == len(table), claim
            continue
        values = table[source["column"]].dropna()
        expected = values.iloc[0] if source["statistic"] == "value" else values.agg(source["statistic"])
        assert len(values) == 1 or source["statistic"] != "value", claim
        assert claim["value"] == pytest.approx(expected, rel=1e-5), claim
        if claim["interval"] == "Clopper-Pearson 95%":
            exact = stats.binomtest(int(claim["value"]), claim["n"]).proportion_ci(0.95, method="exact")
            assert (claim["low"], claim["high"]) == pytest.approx(tuple(exact)), claim
        elif claim["interval"]:
            assert claim["low"] - 1e-9 <= claim["value"] <= claim["high"] + 1e-9, claim


def test_claims_keep_their_schema(reports: Path) -> None:
    claims, schema = (json.loads((reports / name).read_text()) for name in ("claims.json", "claims.schema.json"))
    jsonschema.validate(claims, schema)
    claims["claims"][0]["unit"] = "furlong"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(claims, schema)


def test_no_sentence_holds_a_number_of_its_own(sections: list[PlacedSection], monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers come through the filters alone: marked there, none is left unmarked outside of `code`."""
    for name in ("value", "with_interval", "brief", "number"):
        unmarked = sentences.FILTERS[name]
        marked = lambda *given, unmarked=unmarked: f"⟦{unmarked(*given)}⟧"  # noqa: E731
        monkeypatch.setitem(sentences.jinja_environment().filters, name, marked)
    sentences.jinja_environment().cache.clear()
    for section in sections:
        for claim in section.content.claims:
            text = re.sub(r"⟦[^⟧]*⟧|`[^`]*`", "", section.render_sentence(claim))
            assert not re.search(r"\d", text.replace("R²", "")), text
    sentences.jinja_environment().cache.clear()


def test_the_first_screen_answers_every_question_in_few_sentences(sections: list[PlacedSection]) -> None:
    questions = {section.name for section in sections if section.chapter == "questions"}
    answered = {section.name for section in sections for claim in section.content.claims if claim.role == "lead"}
    assert questions - answered <= {"optimizers"}
    assert len(report.build_page(sections).lead_sentences) <= report.MAX_LEAD_SENTENCES


def test_a_rescue_is_a_share_of_what_is_missed(usual: Numbers) -> None:
    """By other means: plain means over seeds."""
    runs = report_of(SCORES)[1]["runs.csv"]
    steps = runs["steps_to_converge"].astype(float).fillna(STEPS).groupby(runs["ablation"]).mean()
    cost = steps["no-residual-0"] - steps["nope-causal"]
    assert usual["substitutes", 0, "costs_0"] == pytest.approx(cost)
    assert usual["substitutes", 0, "at_0_0_rescue"] == pytest.approx(
        (steps["no-residual-0"] - steps["forward-0"]) / cost
    )


@pytest.mark.parametrize(
    ("names", "section"),
    [
        (["nope-causal"], "without_positional"),
        (["nope-full"], "without_mask"),
        (["nope-causal-1-layer"], "layers_needed"),
        ([name for name in SCORES if "no-residual" in name or "forward" in name], "residual_connections"),
        (["nope-causal-adamw"], "optimizers"),
    ],
)
def test_other_results_make_other_claims_and_missing_ablations_none(
    usual: Numbers, names: list[str], section: str
) -> None:
    changed = {**SCORES, names[0]: [0.0205 if score > 0.5 else 1.0 for score in SCORES[names[0]]]}
    without = {name: scores for name, scores in SCORES.items() if name not in names}
    before, after, none = (
        {key: value for key, value in claimed.items() if key[0] == section}
        for claimed in (usual, numbers(changed), numbers(without))
    )
    assert before != after
    assert before
    assert not none


def test_an_ablation_that_still_rises_is_open_and_needs_a_larger_budget() -> None:
    """Not if it is order-blind, since then no number of steps could be enough."""
    (rising,) = (claim for claim in claims_with("open", SCORES) if claim.macro == "rising")
    names = {name for _, name in rising.words["ablations"]}
    assert names == {"no-residual-0", "nope-causal-adamw"}
    assert any(claim.macro == "longer" for claim in claims_with("next", SCORES))
    solved = {name: [1.0] * 3 for name in ("nope-causal", "learned-causal")}
    assert not [claim for claim in claims_with("next", solved) if claim.macro == "longer"]


def test_only_declared_comparisons_are_decided_or_open() -> None:
    scores = {"learned-causal": [1.0] * 8, "nope-causal": [0.5] * 8, "null": [0.5] * 8}
    (decided,) = claims_with("decided", scores)
    estimates = {name: estimate.value for name, estimate in decided.estimates.items() if estimate}
    assert estimates["p"] == pytest.approx(2**-7)
    assert estimates["more"] > 0  # nope-causal takes more steps than learned-causal
    table = report_of(scores)[1]["comparisons.csv"]
    steps = table["measure"] == "restricted_steps"
    assert (table["p_holm"].notna() == ((table["declared"] == 1) & steps)).all()


def test_a_run_above_the_ceiling_is_an_alarm() -> None:
    scores = {"learned-causal": [0.99], "nope-full": [0.9, 0.04, 0.03]}
    sections, _ = report_of(scores)
    (alarm,) = (claim for section in sections for claim in section.content.claims if claim.role == "alarm")
    (above,) = (estimate for name, estimate in alarm.estimates.items() if name == "above" and estimate)
    assert (alarm.words["ablation"], above.value) == ("nope-full", 1)
    assert len(report.build_page(sections).alarms) == 1
    assert not claims_with("alarm", {**scores, "nope-full": [0.04, 0.05, 0.03]})


@pytest.mark.parametrize("names", [list(SCORES), ["nope-causal"], ["no-residual-0"], ["nope-full"]])
@pytest.mark.parametrize("with_measurements", [True, False])
def test_any_set_of_ablations_is_reported(names: list[str], with_measurements: bool, measured: Measured) -> None:
    scores = {name: SCORES[name] for name in names}
    sections, _ = report_of(scores, measured if with_measurements else None)
    rendered = report.build_page(sections)
    assert page.render_markdown(rendered)
    assert all(page.render_appendix(rendered).values())
    for section in sections:
        for table in section.content.tables:
            assert {len(row) for row in table.rows} <= {len(table.headers)}
    figures = [figure.name for section in sections for figure in section.content.figures]
    assert len(figures) == len(set(figures))
    if names == ["no-residual-0"] and with_measurements:
        assert all(image.startswith(b"\x89PNG") for image in report.draw_images(sections).values())


def test_every_measurement_is_shown_a_new_one_without_being_named(sections: list[PlacedSection]) -> None:
    generic = set(measurements()) - {name for spec in registered_sections() for name in spec.measurements}
    assert {"adjacency", "correlation"} <= generic
    shown = {section.name: section.content for section in sections}
    for name in generic - {"cost"}:
        assert [claim.macro for claim in shown[name].claims] == ["range"]


@given(low=st.floats(0, 1), high=st.floats(0, 1))
def test_only_exactly_none_and_all_are_written_as_0_and_100_percent(low: float, high: float) -> None:
    low, high = sorted((low, high))
    ends = wording.format_share_interval(low, high).split(" to ")
    for share, text in zip((low, high), ends, strict=True):
        assert (float(text.strip("<>%")) in (0.0, 100.0)) == (share in (0.0, 1.0))
        assert (float(wording.percent(share).strip("<>%")) in (0.0, 100.0)) == (share in (0.0, 1.0))


def estimate(value: float, unit: Unit, **uncertainty: Any) -> Estimate:
    return Estimate(value=value, unit=unit, source=Source(file="", column="", where={}), **uncertainty)


RUNS = estimate(2, "count", low=0.09, high=0.99, n=3, interval="Clopper-Pearson 95%")
STEPS_MORE = estimate(350, "more steps", low=-20, high=720, n=8, interval="t 95%")


@pytest.mark.parametrize(
    ("estimate", "sentence", "cell"),
    [
        (RUNS, "2 of 3 (95% interval 9% to 99%)", "2/3"),
        (STEPS_MORE, "+350 (95% interval −20 to +720, n = 8)", "+350 (−20 to +720)"),
        (estimate(1.0, "share", low=1.0, high=1.0, n=3, interval="t 95%"), "100% (n = 3)", "100%"),
        (estimate(0.00003, "p"), "< 0.0001", "< 0.0001"),
    ],
)
def test_an_interval_is_written_in_one_way(estimate: Estimate, sentence: str, cell: str) -> None:
    assert wording.format_with_interval(estimate) == sentence
    assert wording.format_cell(estimate) == cell


def test_a_number_of_one_row_needs_exactly_one_row() -> None:
    table, source = pd.DataFrame({"x": [1.0, 2.0]}), Source(file="a.csv", column="x", where={})
    with pytest.raises(ValueError, match=r"a\.csv: 2 rows"):
        read_number(table, [0, 1], source)
    assert read_number(table, [1], source) == 2.0
    assert read_number(table, [], source) is None
    assert claim_records("a", "b", Claim("c", {"d": None})) == []
