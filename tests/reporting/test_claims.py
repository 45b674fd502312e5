"""Every number of every sentence stands in a written table, is told with it, and follows the results."""

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.measurement.catalogue import measurements
from pipeline.reporting import sentences, wording
from pipeline.reporting.claims import VERDICTS, Claim, Estimate, Source, Unit, records
from pipeline.reporting.experiment import report
from pipeline.reporting.experiment.report import PlacedSection
from pipeline.reporting.experiment.sections import registered_sections
from pipeline.stages import report as stage
from tests.reporting.synthetic import (
    STEPS,
    Grid,
    ablation,
    evidence,
    grid,
    listed,
    members,
    params,
    told,
    without,
    without_pictures,
    write,
)


def by_name(found: Sequence[PlacedSection]) -> dict[str, list[Claim]]:
    return {one.name: list(one.content.claims) for one in found}


def numbers(made: Grid, *, measured: bool = False) -> dict[tuple[str, int, str], float]:
    """(Finding, claim, name) -> value."""
    return {
        (finding, place, name): estimate.value
        for finding, claims in by_name(told(made, measured=measured)).items()
        for place, claim in enumerate(claims)
        for name, estimate in claim.estimates.items()
        if estimate is not None
    }


@cache
def usual() -> dict[tuple[str, int, str], float]:
    """Those of the grid."""
    return numbers(grid())


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage writes of the grid, ceiling and all."""
    folder = tmp_path_factory.mktemp("report")
    write(grid(), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        without_pictures(patch)
        stage.run(params(grid()))
    return folder / "reports"


def test_every_claim_is_recomputed_from_the_tables(reports: Path) -> None:
    """By other means than those that made it: plain pandas on the files, scipy for the interval."""
    claims = json.loads((reports / "claims.json").read_text())["claims"]
    assert len(claims) > 40
    for claim in claims:
        source = claim["source"]
        table = pd.read_csv(reports / source["file"], keep_default_na=True)
        for column, value in source["where"].items():
            table = table[table[column].isin(value if isinstance(value, list) else [value])]
        if source["statistic"] == "rows":
            assert claim["value"] == len(table), claim
            continue
        values = table[source["column"]].dropna()
        found = {"value": values.iloc[0] if len(values) == 1 else None, "sum": values.sum(), "min": values.min()}
        found |= {"max": values.max(), "median": values.median()}
        assert claim["value"] == pytest.approx(found[source["statistic"]], rel=1e-5), claim
        if claim["interval"] == "Clopper-Pearson 95%":
            exact = stats.binomtest(int(claim["value"]), claim["n"]).proportion_ci(0.95, method="exact")
            assert (claim["low"], claim["high"]) == pytest.approx(tuple(exact)), claim
        elif claim["interval"]:
            assert claim["low"] <= claim["value"] + 1e-9, claim
            assert claim["value"] <= claim["high"] + 1e-9, claim


def test_claims_keep_their_schema(reports: Path) -> None:
    claims, schema = (json.loads((reports / name).read_text()) for name in ("claims.json", "claims.schema.json"))
    jsonschema.validate(claims, schema)
    claims["claims"][0]["unit"] = "furlong"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(claims, schema)


@given(low=st.floats(0, 1), high=st.floats(0, 1))
def test_only_what_is_all_or_nothing_reads_so(low: float, high: float) -> None:
    low, high = sorted((low, high))
    ends = wording.share_interval(low, high).split(" to ")
    for end, text in zip((low, high), ends, strict=True):
        bare = text.strip("<>%")
        assert (float(bare) in (0.0, 100.0)) == (end in (0.0, 1.0))


def test_no_sentence_holds_a_number_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers come through the filters alone: marked there, none is left unmarked outside of `code`."""
    for name in ("value", "with_interval", "brief", "number"):
        plain = getattr(wording, name)
        marked = lambda *given, plain=plain: f"⟦{plain(*given)}⟧"  # noqa: E731
        monkeypatch.setitem(sentences.environment().filters, name, marked)
    sentences.environment().cache.clear()
    for one in told(grid()):
        for claim in one.content.claims:
            text = re.sub(r"⟦[^⟧]*⟧|`[^`]*`", "", one.sentence(claim))
            assert not re.search(r"\d", text.replace("R²", "")), text
    sentences.environment().cache.clear()


def test_the_first_screen_answers_the_default_questions_in_seven_sentences() -> None:
    leads = [one.name for one in told(grid()) for claim in one.content.claims if claim.role == "lead"]
    questions = ["without_positional", "without_mask", "layers_needed", "residual_connections"]
    assert leads == [*questions, "substitutes", "masks", "depth", "position_probe"]
    assert len(report.page(told(grid())).lead) == report.MAX_LEADS


def test_what_is_given_back_is_a_share_of_what_is_missed() -> None:
    """By other means: plain means over seeds."""
    runs = evidence(grid(), measured=False).runs.set_index(["ablation", "seed"])
    taken = runs["steps_to_converge"].astype(float).fillna(STEPS).groupby("ablation").mean()
    cost = taken["nope-causal-no-residual-1"] - taken["nope-causal"]
    saved = taken["nope-causal-no-residual-1"] - taken["forward-1"]
    assert usual()["substitutes", 0, "at_0_0_rescue"] == pytest.approx(saved / cost)
    assert usual()["substitutes", 0, "costs_0"] == pytest.approx(cost)


@pytest.mark.parametrize(
    ("lacking", "finding"),
    [
        (["nope-causal"], "without_positional"),
        (["nope-full"], "without_mask"),
        (["nope-causal-1-layer", "nope-causal-2-layers"], "layers_needed"),
        ([name for name in grid() if "no-residual" in name], "residual_connections"),
        (["nope-causal-adamw"], "optimizers"),
    ],
)
def test_a_grid_without_the_ablations_claims_nothing_of_them(lacking: list[str], finding: str) -> None:
    assert not [
        one for one in told(without(grid(), *lacking), measured=False) if one.name == finding and one.content.claims
    ]


def test_names_mean_nothing() -> None:
    made = grid()
    renamed: dict = {}
    for place, (one, scores) in enumerate(made.values()):
        renamed[f"ablation-{place}"] = (one.model_copy(update={"name": f"ablation-{place}"}), scores)
    assert numbers(renamed) == usual()


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("nope-causal", "without_positional"),
        ("learned-causal", "without_positional"),
        ("nope-full", "without_mask"),
        ("learned-full", "without_mask"),
        ("nope-causal-2-layers", "layers_needed"),
        ("nope-causal-no-residual-2", "residual_connections"),
        ("nope-causal-adamw", "optimizers"),
    ],
)
def test_other_results_make_other_claims(name: str, finding: str) -> None:
    made = grid()
    other = {**made, name: (made[name][0], [0.0205 if score > 0.5 else 1.0 for score in made[name][1]])}
    before, after = (
        {key: value for key, value in each.items() if key[0] == finding} for each in (usual(), numbers(other))
    )
    assert before != after


def test_a_ablation_that_still_rises_is_open_and_told_to_go_on() -> None:
    """Where its runs end flat, more steps would not help."""
    found = told(grid(), measured=False)
    said = {one.sentence(claim) for one in found for claim in one.content.claims if claim.role in VERDICTS}
    assert any("2 of 3 runs of `nope-causal-no-residual-1`" in one for one in said)
    (rising,) = (one for one in said if "still rising" in one.lower())
    assert "`nope-full`" not in rising  # no number of steps could help it
    assert "`nope-causal-1-layer`" not in rising
    assert any("larger budget" in one for one in said)
    flat = without(grid(), *(name for name, (_, scores) in grid().items() if not all(one >= 0.99 for one in scores)))
    assert not [claim for one in told(flat, measured=False) for claim in one.content.claims if claim.role == "next"]


def test_what_is_declared_is_decided_or_open_and_nothing_else_has_a_p_value() -> None:
    seeds = [0.99 + 0.001 * place for place in range(8)]
    made = {**ablation("learned-causal", seeds, positional="learned"), **ablation("nope-causal", [0.5] * 8)}
    found = [claim for one in told(made, measured=False) for claim in one.content.claims]
    verdicts = {claim.role: claim for claim in found if claim.role in VERDICTS}
    decided = verdicts["decided"].estimates
    assert decided["p"].value == pytest.approx(2**-7)
    assert decided["more"].value < 0  # learned-causal, which is declared against nope-causal, takes fewer steps
    table = evidence(made, measured=False).tables["comparisons.csv"]
    assert (table["p_holm"].notna() == (table["declared"] == 1)).all()


def test_a_run_above_the_ceiling_is_an_alarm() -> None:
    made = grid()
    found = told({**made, "nope-full": (made["nope-full"][0], [0.5, 0.04, 0.03])}, measured=False)
    alarms = [claim for one in found for claim in one.content.claims if claim.role == "alarm"]
    assert [(claim.words["ablation"], claim.estimates["above"].value) for claim in alarms] == [("nope-full", 1)]
    assert not [claim for one in told(made, measured=False) for claim in one.content.claims if claim.role == "alarm"]


@pytest.mark.parametrize(
    "made", [grid(), ablation("only", [0.5]), ablation("only", [1.0], positional="learned", residual_free=[0])]
)
@pytest.mark.parametrize("measured", [True, False])
def test_any_grid_is_told_with_pictures_and_full_tables(made: Grid, measured: bool) -> None:
    found = told(made, measured=measured)
    for one in found:
        section = one.render("", one.content.figures[0] if one.content.figures else None)
        assert all(section.paragraphs)
        for table in one.content.tables:
            assert {len(row) for row in table.rows} <= {len(table.headers)}
    names = [figure.name for one in found for figure in one.content.figures]
    assert len(names) == len(set(names))
    if len(made) == 1:
        assert all(image.startswith(b"\x89PNG") for image in report.images(found).values())


def test_four_depths_are_a_curve_of_each_kind() -> None:
    deeper = ablation("nope-causal-4-layers", [0.995, 0.992, 0.99], layers=4)
    for made, names in ((grid(), set[str]()), ({**grid(), **deeper}, {"by_layers"})):
        (found,) = (one for one in told(made, measured=False) if one.name == "layers_needed")
        assert {figure.name for figure in found.content.figures} == names


def test_every_measurement_is_told_of_and_a_new_one_without_being_named() -> None:
    found = told(grid())
    generic = set(measurements()) - {name for section in registered_sections() for name in section.measurements}
    assert {"adjacency", "correlation"} <= generic
    for name in generic & set(members(grid())):  # a new one has no made-up table
        assert [claim.sentence for claim in by_name(found)[name]] == ["range"]


def test_two_tasks_are_told_apart() -> None:
    made = grid()
    both = report.collect_sections([evidence(made), evidence(ablation("alone", [0.5]))], measurements())
    names = [figure.name for one in both for figure in one.content.figures]
    assert all(name.startswith("addition-") for name in names)


def estimate(value: float, unit: Unit, **sure: Any) -> Estimate:
    return Estimate(value=value, unit=unit, source=Source(file="", column="", where={}), **sure)


@pytest.mark.parametrize(
    ("estimate", "sentence", "table"),
    [
        (
            estimate(2, "count", low=0.09, high=0.99, n=3, interval="Clopper-Pearson 95%"),
            "2 of 3 (95% interval 9% to 99%)",
            "2/3",
        ),
        (
            estimate(0.494, "number", low=0.4, high=0.54, n=3, interval="t 95%"),
            "0.494 (95% interval 0.4 to 0.54, n = 3)",
            "0.494 (0.4 to 0.54)",
        ),
        (
            estimate(1.7, "ratio", low=1.67, high=2.14, n=3, interval="minimum to maximum"),
            "1.70 (range 1.67 to 2.14, n = 3)",
            "1.70 (1.67 to 2.14)",
        ),
        (
            estimate(350, "more steps", low=-20, high=720, n=8, interval="t 95%"),
            "+350 (95% interval −20 to +720, n = 8)",
            "+350 (−20 to +720)",
        ),
        (estimate(1.0, "share", low=1.0, high=1.0, n=3, interval="t 95%"), "100% (n = 3)", "100%"),
        (estimate(0.00003, "p"), "< 0.0001", "< 0.0001"),
        (estimate(-0.015, "points"), "−1.50", "−1.50"),
    ],
)
def test_an_interval_is_written_in_one_way(estimate: Estimate, sentence: str, table: str) -> None:
    assert wording.with_interval(estimate) == sentence
    assert wording.brief(estimate) == table


@pytest.mark.parametrize(
    ("share", "said"), [(0.0, "0%"), (1.0, "100%"), (0.9999, "99.99%"), (0.99999999, ">99.999%"), (0.995, "99.5%")]
)
def test_only_all_or_nothing_reads_so(share: float, said: str) -> None:
    assert wording.percent(share) == said


def test_a_claim_of_one_row_meets_one_row() -> None:
    found = evidence(grid())
    with pytest.raises(ValueError, match="where one is meant"):
        found.estimate("ablations.csv", "converged", "count", {"task": "addition"})
    assert found.estimate("ablations.csv", "converged", "count", {"ablation": "nobody"}) is None
    assert records("a", "b", Claim("c", {"d": None})) == []
    assert found.converged(listed(grid())[0]).budget == 2000
