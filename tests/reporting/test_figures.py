"""Figures of any number of rows, lines and panels are readable, and show the numbers that they were given."""

import io
import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from pipeline.reporting import style
from pipeline.reporting.figures import Heat, Line, Mark, Strip, draw_forest, draw_heat, draw_lines, draw_strip

ORANGE, BLUE = style.PALETTE[:2]
COUNTS = (1, 3, 6, 12, 40)
NAN = math.nan
LONG = "no positional encoding, causal mask, no residual connections at the attention of the first and last layer"
STEPS = "Training steps until 99 % of unseen problems are answered right"


@pytest.fixture(autouse=True)
def _styled() -> Iterator[None]:
    with mpl.rc_context({**mpl.rcParamsDefault, **style.MATPLOTLIB_SETTINGS}):
        yield


def label(index: int) -> str:
    """The label of a row or line; every third is long."""
    return f"{LONG}, number {index}" if index % 3 == 2 else f"no PE, {index} layers"


def strip(index: int, *, runs: int = 8, budget: float = 1600) -> Strip:
    """A strip of runs, some of which end at the budget."""
    values = np.array([min(budget, 300.0 + 97 * index % 900 + 53 * run * (index % 5)) for run in range(runs)])
    mean, converged = values.mean(), values < budget
    return Strip(
        label(index), values, converged, (mean, 0.9 * mean, 1.1 * mean), f"{converged.sum()} of {runs}", ORANGE
    )


def strips(count: int) -> Figure:
    groups = {f"A group of ablations: {LONG}" if first else "Mask": [] for first in range(0, count, 10)}
    names = list(groups)
    for index in range(count):
        groups[names[index // 10 % len(names)]].append(strip(index))
    return draw_strip(groups, x_label=STEPS, legend={"no PE": ORANGE, "learned PE": BLUE})


def line(index: int, points: int = 6) -> Line:
    y = 400 + 130.0 * index + 20 * (-1) ** np.arange(points)
    return Line(label(index), np.column_stack([1 + np.arange(points), y, y - 50, y + 50]), style.PALETTE[index % 8])


def lines(panel_count: int, line_count: int, *, y_label: str = STEPS) -> Figure:
    titles = [f"{LONG}, {index}" if index == 1 else f"Panel {index}" for index in range(panel_count)]
    panels = {title: [line(index) for index in range(line_count)] for title in titles}
    return draw_lines(panels, x_label=f"{STEPS}, by the number of layers", y_label=y_label)


def heat(rows: int, columns: int, *, wide: bool = False) -> Heat:
    shades = np.linspace(0, 1, rows * columns).reshape(rows, columns)
    shades[-1, -1] = NAN if rows * columns > 1 else 0.5
    hatched = np.zeros((rows, columns), bool)
    hatched[rows // 2, : columns // 2] = True
    texts = [
        [f"{5 * shade:.0f} of 5" if wide else f"{100 * shade:.0f}" for shade in np.nan_to_num(row)] for row in shades
    ]
    names = [label(index) if wide else str(index) for index in range(max(rows, columns))]
    return Heat(names[:rows], names[:columns], shades, texts, hatched)


def heats(panel_count: int, rows: int, columns: int, *, wide: bool = False) -> Figure:
    panels = {
        f"{LONG}, {index}" if index == 1 else f"Panel {index}": heat(rows, columns, wide=wide)
        for index in range(panel_count)
    }
    words = {"x_label": "Token that is read, by its position", "y_label": "State that is read from, by its position"}
    return draw_heat(
        panels, **words, color_label="Share of the runs that converged", legend_hatched=f"impossible: {LONG}"
    )


def marks(count: int) -> list[Mark]:
    bound = [index % 5 == 4 for index in range(count)]
    value = [1800.0 if bound[index] else 700 + 31.0 * index % 900 for index in range(count)]
    width = [NAN if bound[index] else 40 + 10.0 * (index % 7) for index in range(count)]
    return [
        Mark(label(index), (value[index], value[index] - width[index], value[index] + width[index]), bound[index])
        for index in range(count)
    ]


def forest(panel_count: int, count: int) -> Figure:
    panels = {f"{LONG}, {index}" if index == 1 else f"Panel {index}": marks(count) for index in range(panel_count)}
    references = {title: {"intact": 800.0, "without the connections": 1300.0 + 9 * len(title)} for title in panels}
    return draw_forest(panels, x_label=STEPS, references=references)


FIGURES: dict[str, Callable[[], Figure]] = {
    **{f"strip-{count}": partial(strips, count) for count in COUNTS},
    **{f"lines-{count}": partial(lines, 1, count) for count in COUNTS},
    **{
        f"lines-in-{count}-panels": partial(lines, count, 2, y_label=STEPS if count % 2 else "")
        for count in range(1, 7)
    },
    **{f"heat-{count}": partial(heats, 1, count, count) for count in COUNTS},
    **{f"heat-{count}-by-6": partial(heats, 1, count, 6, wide=True) for count in COUNTS},
    "heat-13-by-20": partial(heats, 1, 13, 20, wide=True),
    **{f"heat-in-{count}-panels": partial(heats, count, 7, 7) for count in range(1, 7)},
    "heat-with-long-labels-in-2-panels": partial(heats, 2, 3, 4, wide=True),
    **{f"forest-{count}": partial(forest, 1, count) for count in COUNTS},
    **{f"forest-in-{count}-panels": partial(forest, count, 5) for count in range(1, 7)},
}


def drawn_texts(figure: Figure) -> list[Text]:
    """Draw a figure; return the texts that can be seen."""
    drawn: dict[int, Text] = {}
    draw = Text.draw

    def record(text: Text, renderer: object) -> None:
        if text.get_visible() and text.get_text().strip():
            drawn[id(text)] = text
        draw(text, renderer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        figure.set_dpi(style.DOTS_PER_INCH)
        FigureCanvasAgg(figure).draw()
    return list(drawn.values())


def assert_readable(figure: Figure) -> None:
    texts = drawn_texts(figure)
    assert min(text.get_fontsize() for text in texts) >= 11
    assert 0.12 < figure.get_figheight() / figure.get_figwidth() < 2.2
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for text, box in boxes:
        assert min(box.x0, box.y0) >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for (first, box), (second, other) in combinations(boxes, 2):
        width = min(box.x1, other.x1) - max(box.x0, other.x0)
        height = min(box.y1, other.y1) - max(box.y0, other.y0)
        assert width <= 1 or height <= 1, (first, second)


@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_large_lie_within_the_figure_and_not_on_each_other(name: str) -> None:
    assert_readable(FIGURES[name]())


@pytest.mark.parametrize(
    "draw", [partial(strips, 3), partial(lines, 2, 3), partial(heats, 4, 7, 7), partial(forest, 2, 5)]
)
def test_the_same_data_give_the_same_bytes(draw: Callable[[], Figure]) -> None:
    content = style.draw_image(draw)
    assert content == style.draw_image(draw)
    image = Image.open(io.BytesIO(content))
    assert (image.format, image.width) == ("WEBP", 1300)
    assert content[12:16] == b"VP8L"  # lossless
    colors = image.convert("RGB").getcolors(256)
    assert colors is not None
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_the_style_does_not_outlive_a_figure() -> None:
    before = dict(mpl.rcParams)
    style.draw_image(partial(strips, 1))
    assert dict(mpl.rcParams) == before


def points(axes: Axes, markers: str) -> list[tuple[float, str]]:
    """The horizontal coordinate and marker of each point drawn with one of the markers."""
    shown = [line for line in axes.lines if line.get_marker() in tuple(markers)]
    return [(float(x), str(line.get_marker())) for line in shown for x in np.atleast_1d(line.get_xdata())]


def test_every_run_has_a_mark_at_its_value_and_shows_how_it_ended() -> None:
    shown = strip(3)
    assert {*shown.converged} == {True, False}
    (axes,) = draw_strip({"": [shown]}, x_label=STEPS, legend={}).axes
    endings = zip(shown.values, shown.converged, strict=True)
    expected = [(value, "o" if converged else "x") for value, converged in endings]
    assert sorted(points(axes, "ox")) == sorted(expected)
    assert shown.mean[0] in {float(x) for bar in axes.collections for x in bar.get_paths()[0].vertices[:, 0]}
    assert shown.note in [text.get_text() for text in axes.texts]


def test_marks_of_equal_runs_differ_in_height() -> None:
    equal = Strip("", np.full(5, 500.0), np.full(5, True), (500.0, NAN, NAN), "", BLUE)
    (axes,) = draw_strip({"": [equal]}, x_label=STEPS, legend={}).axes
    (marks,) = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(set(marks.get_ydata())) == 5


def test_only_a_bound_is_hollow_and_has_an_arrow() -> None:
    shown = marks(5)
    assert sum(mark.is_bound for mark in shown) == 1
    (axes,) = draw_forest({"": shown}, x_label=STEPS, references={}).axes
    drawn = [line for line in axes.lines if line.get_marker() == "o"]
    faces = {float(np.atleast_1d(line.get_xdata())[0]): to_hex(line.get_markerfacecolor()) for line in drawn}
    assert faces == {mark.estimate[0]: "#ffffff" if mark.is_bound else BLUE.lower() for mark in shown}
    (arrow,) = axes.texts
    assert arrow.xy[0] == 1800


def test_a_label_that_panels_share_is_written_once() -> None:
    texts = [text.get_text() for text in drawn_texts(forest(2, 2))]
    assert texts.count(label(0)) == 1
    assert texts.count("intact") == 1


def test_lines_lie_at_their_values_and_are_labelled_once() -> None:
    figure = draw_lines({"": [line(0), line(1)], "again": [line(0)]}, x_label="Depth")
    assert [drawn.get_ydata().tolist() for drawn in figure.axes[0].lines] == [
        line(n).points[:, 1].tolist() for n in (0, 1)
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [line(0).label, line(1).label]


def test_the_interval_of_a_single_point_is_drawn() -> None:
    (axes,) = draw_lines({"": [line(0, 1)]}, x_label="Depth", y_label="Change").axes
    assert [370.0, 470.0] in [path.vertices[:, 1].tolist() for bar in axes.collections for path in bar.get_paths()]


def test_cells_have_their_shade_and_text_unless_proved_impossible_or_too_narrow() -> None:
    shown = heat(3, 4, wide=True)
    axes = draw_heat({"": shown}, x_label="", y_label="", color_label="Share").axes[0]
    colored, hatched = axes.collections
    blank = shown.hatched | np.isnan(shown.shades)
    assert np.array_equal(colored.get_array().mask, blank)
    assert np.allclose(colored.get_array().data[~blank], shown.shades[~blank])
    assert hatched.get_hatch()
    assert len(hatched.get_paths()) == shown.hatched.sum()
    assert [text.get_text() for text in axes.texts] == [text for row in shown.texts for text in row]
    assert not draw_heat({"": heat(3, 40, wide=True)}, x_label="", y_label="", color_label="").axes[0].texts
