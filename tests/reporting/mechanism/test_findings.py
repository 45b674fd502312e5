"""The sections about the mechanism: what all have in common; symmetry, depth, position and adjacency."""

import numpy as np
import pandas as pd
import pytest

from pipeline.measurement.registry import Measurement, measurements
from pipeline.reporting import tables
from pipeline.reporting.mechanism import adjacency, depth, generic, position, symmetry
from pipeline.reporting.mechanism.finding import Finding, Measured
from pipeline.reporting.mechanism.findings import SECTIONS, findings
from pipeline.reporting.mechanism.panels import summary
from tests.reporting import synthetic as runs_of
from tests.reporting.mechanism import synthetic


def evidence(runs: pd.DataFrame, **changed: pd.DataFrame) -> Measured:
    return Measured(synthetic.measured(runs) | changed, runs, tables.ablations(runs, runs_of.CEILING, []))


def text(finding: Finding) -> str:
    return " ".join([*finding.section.paragraphs, *(" ".join(row) for t in finding.section.tables for row in t.rows)])


ALONE = runs_of.cell("none-causal", [0.995])


@pytest.mark.parametrize("runs", [runs_of.grid(), ALONE], ids=["grid", "one run"])
def test_every_section_is_written_with_pictures_whatever_the_grid_has(runs: pd.DataFrame) -> None:
    made = findings(evidence(runs), measurements())
    assert len(made) == len(SECTIONS)
    for finding in made:
        assert finding.section.paragraphs
        assert {figure.name for figure in finding.section.figures} == set(finding.images)
        assert all(image.startswith(b"\x89PNG") for image in finding.images.values())


def test_every_section_does_without_measurements() -> None:
    runs = runs_of.grid()
    nothing = Measured({}, runs, tables.ablations(runs, runs_of.CEILING, []))
    for finding in findings(nothing, measurements()):
        assert finding.section.paragraphs


def test_the_same_numbers_give_the_same_bytes() -> None:
    runs = runs_of.grid().head(3)
    assert findings(evidence(runs), measurements()) == findings(evidence(runs), measurements())


def test_a_new_measurement_is_reported_without_being_named_anywhere() -> None:
    runs = runs_of.grid().head(6)

    def loudness(subject: object) -> pd.DataFrame:
        """How loud a layer is.

        Not shown."""
        raise NotImplementedError

    new = Measurement("loudness", "How loud is it?", {"loudness": "loudness of a layer"}, loudness, 0.25, False)
    rows = synthetic.measured(runs)["effective_rank"].rename(columns={"effective_rank": "loudness"})
    last = findings(evidence(runs, loudness=rows), {**measurements(), "loudness": new})[-1]
    assert last.section.title == "How loud is it?"
    assert "How loud a layer is." in text(last)
    assert "Not shown" not in text(last)
    assert "it is 0.25" in text(last)
    assert "loudness.png" in last.images
    scalar = rows[rows["depth"] == 0].drop(columns="depth")
    assert "loudness.png" in generic.section(evidence(runs, loudness=scalar), new).images


def test_agreement_is_counted_and_a_disagreement_is_an_alarm() -> None:
    runs = runs_of.grid()
    told = evidence(runs)
    good = symmetry.section(told)
    members = len(told.tables["symmetry"])
    assert f"{members} of {members}" in text(good)
    assert "bug" not in text(good)
    assert good.short
    wrong = told.tables["symmetry"].copy()
    place = wrong.index[wrong["order_blind_predicted"] == 1][0]
    wrong.loc[place, "max_logit_change"] = 1e-3
    bad = symmetry.section(evidence(runs, symmetry=wrong))
    assert f"{members - 1} of {members}" in text(bad)
    assert "**A bug in the instrument" in text(bad)
    assert wrong.loc[place, "ablation"] in text(bad)
    assert bad.short is None


def test_the_first_depth_that_moves_is_the_first_at_which_every_member_does() -> None:
    rows = pd.DataFrame({"depth": [0, 0, 1, 1, 2, 2], "change_of_token": [0.0, 0.0, 0.2, 1e-8, 0.2, 0.1]})
    assert depth.first_moved(rows) == 2
    assert depth.first_moved(rows[rows["depth"] < 2]) is None
    told = depth.section(evidence(runs_of.grid()))
    assert told.short
    assert "after 2 layers" in told.short
    assert "depth_along_training.png" in told.images


def test_without_snapshots_there_is_no_picture_along_training() -> None:
    runs = runs_of.grid().head(3)
    table = synthetic.measured(runs)["depth"]
    told = depth.section(evidence(runs, depth=table[(table["step"] == 0) | (table["trained"] == 1)]))
    assert set(told.images) == {"depth.png"}


def test_position_is_told_where_it_is_best_readable_and_beside_its_control() -> None:
    runs = runs_of.grid()
    table = synthetic.measured(runs)["position_probe"]
    name = runs.loc[(runs["positional"] == "none") & (runs["attention"] == "causal"), "ablation"].iloc[0]
    chosen = (table["ablation"] == name) & (table["depth"] == 2) & (table["control"] == 0) & (table["trained"] == 1)
    table.loc[chosen & (table["rows"] == "random") & (table["target"] == "position"), "r2"] = 0.97
    told = position.section(evidence(runs, position_probe=table))
    assert position.best_depth(table[(table["rows"] == "random") & (table["control"] == 0)], name) == 2
    assert f"`{name}` 0.97" in text(told)
    assert "The control never explains more than" in text(told)


def test_adjacency_names_the_cells_whose_interval_leaves_out_chance() -> None:
    runs = runs_of.grid()
    said = adjacency.section(evidence(runs)).section.paragraphs[1]
    causal = set(runs.loc[(runs["attention"] == "causal"), "ablation"])
    above = said.split("above chance in ")[1].split(";")[0]
    assert all(f"`{name}`" in above for name in causal)


def test_a_summary_holds_the_mean_in_its_interval_and_counts_members() -> None:
    runs = runs_of.grid()
    table = synthetic.measured(runs)["adjacency"]
    found = summary(table, ["adjacency"])
    assert ((found["low"] <= found["mean"] + 1e-12) & (found["mean"] <= found["high"] + 1e-12)).all()
    seeds = runs.groupby("ablation")["seed"].nunique()
    assert (found["n"] == found["ablation"].map(seeds)).all()
    one = found.iloc[0]
    rows = table[(table["ablation"] == one["ablation"]) & (table["trained"] == one["trained"])]
    rows = rows[(rows["depth"] == one["depth"]) & (rows["rows"] == one["rows"])]
    np.testing.assert_allclose(one["mean"], rows["adjacency"].mean())
    assert summary(pd.DataFrame(), ["x"]).empty
