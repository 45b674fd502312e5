"""Laws of the section about the slices: what dominates, and that the words follow the numbers."""

import numpy as np
import pandas as pd
import pytest

from pipeline.reporting.mechanism import pairs
from pipeline.reporting.mechanism.finding import Measured
from pipeline.reporting.mechanism.slices import depth_to_read, dominance, section
from tests.reporting.mechanism.synthetic_costs import POSITIONS, grid, measured, slices
from tests.reporting.synthetic import cell

PNG = b"\x89PNG\r\n\x1a\n"


def test_the_identity_dominates_everywhere() -> None:
    table = dominance(slices(cell("x", [1.0]), lambda whole, depth: np.eye(POSITIONS)))
    assert (table["dominance"] == 1).all()
    assert table["margin"].to_numpy() == pytest.approx(1.0)


def test_a_column_about_another_token_does_not_dominate() -> None:
    scrambled = np.roll(np.eye(POSITIONS), 1, axis=1)
    table = dominance(slices(cell("x", [1.0]), lambda whole, depth: scrambled))
    assert (table["dominance"] == 0).all()
    assert table["margin"].to_numpy() == pytest.approx(-1.0)


def test_equally_readable_tokens_do_not_dominate() -> None:
    table = dominance(slices(cell("x", [1.0]), lambda whole, depth: np.full((POSITIONS, POSITIONS), 0.5)))
    assert (table["dominance"] == 0).all()


def test_dominance_is_a_share_of_the_positions() -> None:
    half = np.eye(POSITIONS)
    half[: POSITIONS // 2] = 0.5
    table = dominance(slices(cell("x", [1.0, 1.0]), lambda whole, depth: half))
    assert table["dominance"].to_numpy() == pytest.approx(0.5)
    assert set(table["seed"]) == {111, 222}


def test_a_residual_free_cell_is_read_after_its_last_such_layer() -> None:
    cells = measured(grid()).cells.set_index("ablation", drop=False)
    read = {name: depth_to_read(cells.loc[name]) for name in cells.index}
    assert read["none-causal"] == 3
    assert read["none-causal-1-layer"] == 1
    assert read["none-causal-no-residual-1"] == 2
    assert depth_to_read(pd.Series({"residual_free_attention": "0", "residual_free_mlp": "1 2", "layers": 4})) == 3


def test_words_follow_the_numbers() -> None:
    finding = section(measured(grid()))
    assert finding.short is not None
    assert "100% of the positions with every residual connection (n = 15 trained runs)" in finding.short
    assert "16.7% of the positions right after a layer that lacks one (n = 6 trained runs)" in finding.short
    assert "smaller in 4 of 4 comparisons" in " ".join(finding.section.paragraphs)
    same = measured(grid())
    told = section(
        Measured({"slices": slices(same.runs, lambda whole, depth: np.eye(POSITIONS))}, same.runs, same.cells)
    )
    assert "smaller in 0 of 4 comparisons" in " ".join(told.section.paragraphs)


def test_figures_are_png_and_the_same_twice() -> None:
    first, second = section(measured(grid())), section(measured(grid()))
    assert first.images == second.images
    assert (
        {figure.name for figure in first.section.figures}
        == set(first.images)
        == {"slices.png", "correlation_ratio.png"}
    )
    assert all(image.startswith(PNG) for image in first.images.values())


@pytest.mark.parametrize("residual_free", ["", "1"])
def test_one_cell_with_one_seed(residual_free: str) -> None:
    finding = section(measured(cell("only", [0.5], residual_free=residual_free)))
    text = " ".join(finding.section.paragraphs)
    assert "No trained run" in text
    assert "counterpart" in text


def test_what_was_not_measured_is_said() -> None:
    runs = grid()
    full = measured(runs)
    nothing = section(Measured({}, runs, full.cells))
    assert nothing.short is None
    assert not nothing.images
    assert " ".join(nothing.section.paragraphs).count("not measured here") == 2
    untrained = {name: pairs.initial(table) for name, table in full.tables.items()}
    only_start = section(Measured(untrained, runs, full.cells))
    assert only_start.short is None
    assert "No trained run" in " ".join(only_start.section.paragraphs)
