"""Laws of the section about trainability: the verdict follows the numbers in each direction."""

import pandas as pd
import pytest

from pipeline.reporting.mechanism import pairs
from pipeline.reporting.mechanism.finding import Measured
from pipeline.reporting.mechanism.trainability import section, verdict
from tests.reporting.mechanism.synthetic_costs import grid, measured
from tests.reporting.synthetic import cell

PNG = b"\x89PNG\r\n\x1a\n"


def _pair(plain: list[float], control: list[float]) -> pd.DataFrame:
    return pd.concat(
        [
            cell("whole", [1.0] * len(plain)),
            cell("plain", plain, residual_free="1"),
            cell("control", control, residual_free="1", residual_free_initialisation="identity"),
        ],
        ignore_index=True,
    )


@pytest.mark.parametrize(
    ("plain", "control", "name"),
    [
        ([0.1, 0.2, 0.3], [1.0, 1.0, 1.0], "trainability"),
        ([0.1, 0.2, 1.0], [1.0, 1.0, 0.5], "trainability"),
        ([0.1, 0.2, 0.3], [1.0, 0.2, 1.0], "partly"),
        ([0.1, 0.2, 0.3], [0.2, 0.2, 0.2], "undecided"),
        ([0.1, 1.0, 1.0], [0.2, 1.0, 1.0], "undecided"),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], "nothing"),
        ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0], "nothing"),
    ],
)
def test_the_verdict_follows_the_numbers(plain: list[float], control: list[float], name: str) -> None:
    runs = _pair(plain, control)
    found, words = verdict(runs, "plain", "control")
    assert found == name
    assert ("**trainability**" in words) == (name in ("trainability", "partly"))
    assert words in " ".join(section(measured(runs)).section.paragraphs)


def test_a_run_that_the_control_breaks_is_said() -> None:
    assert "2 other runs" in verdict(_pair([0.0, 1.0, 1.0], [1.0, 0.0, 0.0]), "plain", "control")[1]


def test_a_missing_seed_is_not_a_failure() -> None:
    runs = _pair([0.1, 0.2, 0.3], [1.0, 1.0, 1.0])
    fewer = runs[~((runs["ablation"] == "control") & (runs["seed"] == 333))]
    assert verdict(fewer, "plain", "control")[0] == "trainability"
    none = runs.assign(seed=runs["seed"] + 1000 * (runs["ablation"] == "control"))
    assert verdict(none, "plain", "control")[0] == "unpaired"
    assert "no seed is shared" in (section(measured(none)).short or "")


def test_controls_are_found_by_what_they_are() -> None:
    runs = grid()
    renamed = runs.assign(
        ablation=runs["ablation"].map({name: f"c{i}" for i, name in enumerate(runs["ablation"].unique())})
    )
    cells = measured(renamed).cells
    assert pairs.controls(cells) == [("c5", "c7"), ("c6", "c8")]
    assert pairs.whole(cells) == [("c5", "c1"), ("c6", "c1"), ("c7", "c1"), ("c8", "c1")]


def test_a_grid_without_a_control_says_so() -> None:
    runs = grid().iloc[:21]
    full = measured(runs)
    for cells in (full.cells, full.cells.drop(columns=pairs.START)):
        finding = section(Measured(full.tables, runs, cells))
        assert finding.short is None
        assert not finding.images
        assert "no pair of a residual-free cell and its control" in " ".join(finding.section.paragraphs)


def test_the_gradient_is_compared_with_the_counterpart() -> None:
    text = " ".join(section(measured(grid())).section.paragraphs)
    told = "less gradient than the counterpart's in 2 of 2 cells (median over seeds; ratios from 0.05 to 0.05)"
    assert text.count(told) == 2  # with the normal start, and with the identity


def test_snapshots_change_nothing_here() -> None:
    full = measured(grid())
    snapshots = {
        name: pd.concat([table, table.assign(step=500, trained=0)], ignore_index=True)
        for name, table in full.tables.items()
        if name in ("effective_rank", "gradient_norm")
    }
    assert section(Measured({**full.tables, **snapshots}, full.runs, full.cells)) == section(full)


@pytest.mark.parametrize("residual_free", ["", "1"])
def test_one_cell_with_one_seed(residual_free: str) -> None:
    finding = section(measured(cell("only", [0.5], residual_free=residual_free)))
    assert finding.short is None
    assert "counterpart" in " ".join(finding.section.paragraphs)


def test_what_was_not_measured_is_said() -> None:
    runs = grid()
    finding = section(Measured({}, runs, measured(runs).cells))
    assert finding.short is not None
    assert "not measured here" in " ".join(finding.section.paragraphs)
    one = section(measured(_pair([0.1], [1.0])))
    assert one.short is not None


def test_the_figure_is_png_and_the_same_twice() -> None:
    first, second = section(measured(grid())), section(measured(grid()))
    assert first.images == second.images
    assert list(first.images) == ["trainability.png"]
    assert first.images["trainability.png"].startswith(PNG)
