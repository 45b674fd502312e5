"""Figures are drawn for any grid, the same bytes each time, with no text on another."""

from functools import partial
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipeline.reporting import figures, tables
from tests.reporting.synthetic import CEILING, cell, grid, history, order_blind


def many(cells: int, seeds: int) -> pd.DataFrame:
    """A grid of cells with names of all lengths."""
    draw = np.random.default_rng(0)
    every = []
    for number in range(cells):
        name = f"none-causal-no-residual-{'attention-' * (number % 2)}{number}"
        residual_free = str(number % 3) if number % 4 else ""
        every.append(cell(name, list(draw.integers(0, 2001, seeds) / 2000), residual_free=residual_free))
    return pd.concat(every, ignore_index=True)


def drawn(runs: pd.DataFrame) -> dict[str, partial[Figure]]:
    cells = tables.ablations(runs, CEILING, order_blind(runs))
    digits, names = tables.by_digit(runs), list(cells["ablation"])
    return {
        "exact_match": partial(figures.exact_match, runs, cells, CEILING),
        "learning_curves": partial(figures.learning_curves, history(runs), cells),
        "by_digit": partial(figures.by_digit, digits, names, ["ones", "tens", "hundreds", "thousands"]),
        "by_carries": partial(figures.by_carries, tables.by_carries(runs), names),
    }


def visible_texts(figure: Figure) -> list[Text]:
    FigureCanvasAgg(figure).draw()
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


ONE = cell("only", [0.5])
FIGURES = list(drawn(ONE))


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_table_gives_the_same_bytes(name: str) -> None:
    first, second = (figures.png(drawn(grid().head(6))[name]) for _ in range(2))
    assert first == second
    assert b"Matplotlib" not in first


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (ONE, FIGURES),
        (cell("only", [0.5] * 100), ["exact_match", "learning_curves"]),
        (many(60, 1), ["exact_match"]),
        (grid(), FIGURES),
    ],
)
def test_texts_are_large_lie_within_the_figure_and_not_on_each_other(runs: pd.DataFrame, names: list[str]) -> None:
    for name in names:
        with mpl.rc_context(figures.STYLE):
            figure = drawn(runs)[name]()
            texts = visible_texts(figure)
        assert min(text.get_fontsize() for text in texts) >= 11
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
        for text, box in boxes:
            assert min(box.x0, box.y0) >= -1, text
            assert box.x1 <= figure.bbox.x1 + 1, text
            assert box.y1 <= figure.bbox.y1 + 1, text
        for (one, box), (other, other_box) in combinations(boxes, 2):
            width = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
            height = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
            assert width <= 1 or height <= 1, (one, other)


def test_every_seed_has_its_mark_and_every_cell_its_count() -> None:
    runs = grid()
    with mpl.rc_context(figures.STYLE):
        figure = drawn(runs)["exact_match"]()
    scores, converged = figure.axes
    marks = [collection for collection in scores.collections if type(collection).__name__ == "PathCollection"]
    assert sum(len(collection.get_offsets()) for collection in marks) == len(runs)
    assert [text.get_text() for text in converged.texts].count("3/3") == (
        runs.groupby("ablation")["converged"].sum().eq(3).sum()
    )


def test_a_member_that_never_was_scored_is_drawn() -> None:
    runs = cell("only", [0.5, 0.2])
    curves = history(runs)
    curves.loc[curves["seed"] == 111, "validation_exact_match"] = np.nan
    cells = tables.ablations(runs, None, set())
    assert figures.png(partial(figures.learning_curves, curves, cells)).startswith(b"\x89PNG")
    assert figures.png(partial(figures.exact_match, runs, cells, None)).startswith(b"\x89PNG")
