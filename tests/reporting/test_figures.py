"""Figures are drawn for any grid, the same bytes each time, with no text on another."""

from functools import partial
from itertools import combinations
from typing import get_args

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipeline.params.model import AttentionName, PositionalName
from pipeline.reporting import style
from pipeline.reporting.experiment import tables
from pipeline.reporting.experiment.figures import across, outcomes
from pipeline.reporting.experiment.section import PANELS, panel_figure
from tests.reporting.synthetic import CEILING, Grid, ablation, ablations, evidence, grid, history, listed, runs


def many(count: int, seeds: int) -> Grid:
    """A grid of ablations with names of all lengths."""
    draw = np.random.default_rng(0)
    every: dict = {}
    for number in range(count):
        name = f"nope-causal-no-residual-{'attention-' * (number % 2)}{number}"
        residual_free = [number % 3] if number % 4 else []
        every |= ablation(name, list(draw.integers(0, 2001, seeds) / 2000), residual_free=residual_free)
    return every


EXACT = ("validation_exact_match", "exact match")
KINDS = ["learned PE, causal", "no PE, causal", "no PE, full", "no PE, causal, 1 layer"]


def many_tasks() -> pd.DataFrame:
    """`tasks.csv` of a few."""
    rows = [
        {
            "task": task,
            "order_counts": int(place % 2 == 0),
            "kind": kind,
            "runs": 5,
            "ceiling": 0.3 if place < 2 else None,
        }
        | ({"converged": 3, "shade": 0.6} if place < 2 else {"test_bits": 1.25, "shade": 0.25 * number})
        for place, task in enumerate(("reverse", "sort", "text", "text-permuted"))
        for number, kind in enumerate(KINDS)
    ]
    return pd.DataFrame(rows).astype({"converged": "Int64"})


def drawn(made: Grid) -> dict[str, partial[Figure]]:
    every, of = runs(made), listed(made)
    digits, carries = tables.mean_by_position(every, "digit"), tables.mean_by_stratum(every, "carries")
    return {
        "steps": partial(outcomes.steps, every, of),
        "exact_match": partial(outcomes.exact_match, every, of, CEILING),
        "by_layers": partial(outcomes.by_layers, ablations(made), {one.name: [one] for one in of[:4]}),
        "learning_curves": partial(outcomes.learning_curves, history(made), of, *EXACT),
        "bits": partial(outcomes.bits, every.assign(test_bits=5 - 4 * every["test_exact_match"]), of),
        "tasks": partial(across.outcomes_by_task, many_tasks(), KINDS),
        "by_digit": partial(outcomes.heat_map, digits, of, ["ones", "tens", "hundreds", "thousands"], "Digit"),
        "by_carries": partial(outcomes.heat_map, carries, of, list("0123"), "Carries"),
        "not_yet_converged": partial(outcomes.not_yet_converged, every, of),
    }


def visible_texts(figure: Figure) -> list[Text]:
    FigureCanvasAgg(figure).draw()
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


ONE = ablation("only", [0.5])
FIGURES = list(drawn(ONE))


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_table_gives_the_same_bytes(name: str) -> None:
    first, second = (style.png(drawn(dict(list(grid().items())[:6]))[name]) for _ in range(2))
    assert first == second
    assert b"Matplotlib" not in first


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (ONE, FIGURES),
        (ablation("only", [0.5] * 100), ["steps", "exact_match", "learning_curves"]),
        (many(60, 1), ["steps", "exact_match"]),
        (grid(), FIGURES),
    ],
)
def test_texts_are_large_lie_within_the_figure_and_not_on_each_other(made: Grid, names: list[str]) -> None:
    for name in names:
        with mpl.rc_context(style.STYLE):
            figure = drawn(made)[name]()
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


@pytest.mark.parametrize("made", [grid(), dict(list(grid().items())[:PANELS])])
def test_a_figure_of_a_panel_per_ablation_shows_a_dozen_those_compared_among_them_and_says_so(made: Grid) -> None:
    of = evidence(made)
    curves = partial(outcomes.learning_curves, history(made), score=EXACT[0], words=EXACT[1])
    figure = panel_figure(of, "name", "Title", "Caption.", curves)
    titles = [axes.get_title(loc="left").replace("\n", "") for axes in figure.draw().axes]
    shown = [name for name in made if name in titles]
    assert [title for title in titles if title] == shown
    assert len(shown) == min(PANELS, len(made))
    assert {name for pair in of.declared[["first", "second"]].to_numpy() for name in pair} <= set(shown)
    said = f" Here {PANELS} of {len(made)} ablations; the tables have all."
    assert figure.caption == "Caption." + said * (len(made) > PANELS)


def test_every_seed_has_its_mark_and_every_ablation_its_count() -> None:
    made = runs(grid())
    with mpl.rc_context(style.STYLE):
        figure = drawn(grid())["steps"]()
    taken, converged = figure.axes
    marks = [collection for collection in taken.collections if type(collection).__name__ == "PathCollection"]
    assert sum(len(collection.get_offsets()) for collection in marks) == len(made)
    assert [text.get_text() for text in converged.texts].count("3/3") == (
        made.groupby("ablation")["converged"].sum().eq(3).sum()
    )


def test_a_member_that_never_was_scored_is_drawn() -> None:
    made = ablation("only", [0.5, 0.2])
    curves = history(made)
    curves.loc[curves["seed"] == 111, "validation_exact_match"] = np.nan
    for draw in (
        partial(outcomes.learning_curves, curves, score=EXACT[0], words=EXACT[1]),
        partial(outcomes.exact_match, runs(made), ceiling=None),
    ):
        assert style.png(lambda draw=draw: draw(ablations=listed(made))).startswith(b"\x89PNG")


def test_every_encoding_and_pattern_has_a_look_of_its_own() -> None:
    for kind, names, look in (
        ("positional", get_args(PositionalName), style.color),
        ("attention", get_args(AttentionName), style.marker),
    ):
        looks = {look(listed(ablation("a", [0.5], **{kind: name}))[0]) for name in names}
        assert len(looks) == len(names)
