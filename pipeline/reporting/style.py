"""The style that all figures share: size, colours, markers, legends, a panel per ablation, and export as PNG.

A figure is 10 inches wide and its text at least 11 points, so that it can be read at the 900 to 1,000 pixels that a
code host gives it. The colour shows the positional encoding, the marker the attention pattern. The same table always
gives the same bytes.
"""

import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, get_args

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from PIL import Image

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.model import AttentionName, PositionalName

FIGURE_WIDTH = 10.0
DOTS_PER_INCH = 130
ENCODING_COLORS = ("#D55E00", "#0072B2", "#009E73", "#8E4585", "#7A5C00", "#000000", "#C44E8A", "#3A86B8")
"""Colours of the positional encodings: those of Okabe and Ito, some darkened for a white background."""
ATTENTION_MARKERS = "os^DvPX"
"""Markers of the attention patterns, in matplotlib's notation."""
GREY, DARK_GREY, LIGHT_GREY = "#999999", "#555555", "#e8e8e8"
MATPLOTLIB_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same on every machine
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "legend.fontsize": 11,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
NOTE_BY_PATTERN = {r"\bnope\b": "nope: no positional encoding", r"residual-\d|layer \d": "layers count from 0"}
"""Regular expression -> note that is added below a figure if a text in the figure matches."""
SHARE_TICKS = [0.0, 0.25, 0.5, 0.75, 1.0]
SHARE_LABELS = [f"{tick:.0%}" for tick in SHARE_TICKS]


def draw_png(draw: Callable[[], Figure]) -> bytes:
    """Draw a figure in the common style and return it as a PNG of 256 colours, without date or version in the file."""
    buffer = io.BytesIO()
    with mpl.rc_context({**mpl.rcParamsDefault, **MATPLOTLIB_SETTINGS}):
        figure = draw()
        _add_notes(figure)
        figure.set_dpi(DOTS_PER_INCH)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # faster than savefig, which computes the layout twice
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _add_notes(figure: Figure) -> None:
    """Add notes, below the panels, that explain abbreviations in the figure."""
    shown = " ".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())
    notes = [note for pattern, note in NOTE_BY_PATTERN.items() if re.search(pattern, shown)]
    if notes:
        note = "; ".join(notes)
        figure.legend(handles=[], title=note, loc="outside lower left", frameon=False, title_fontsize=10, borderpad=0)


def encoding_color(ablation: Ablation) -> str:
    """Return the colour that stands for the ablation's positional encoding in all figures."""
    return ENCODING_COLORS[get_args(PositionalName).index(ablation.model.positional) % len(ENCODING_COLORS)]


def attention_marker(ablation: Ablation) -> str:
    """Return the marker that stands for the ablation's attention pattern in all figures."""
    return ATTENTION_MARKERS[get_args(AttentionName).index(ablation.model.attention) % len(ATTENTION_MARKERS)]


def add_legend(figure: Figure, handles: Sequence[Artist], *, columns: int = 4) -> None:
    """Add a legend above the panels of a figure, in `columns` columns."""
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False, handletextpad=0.5)


def encoding_legend_handles(ablations: Sequence[Ablation], **line_style: Any) -> list[Line2D]:
    """Return a legend handle for each positional encoding that some of the ablations have."""
    first = {ablation.model.positional: ablation for ablation in reversed(ablations)}
    return [
        Line2D(
            [], [], color=encoding_color(first[name]), label=switches.positional_encoding_in_words(name), **line_style
        )
        for name in get_args(PositionalName)
        if name in first
    ]


def full_attention_legend_handles(ablations: Sequence[Ablation], **line_style: Any) -> list[Line2D]:
    """Return a legend handle for full attention; an empty list if no ablation has full attention."""
    full = any(ablation.model.attention == "full" for ablation in ablations)
    return [Line2D([], [], color=DARK_GREY, label="full attention", **line_style)] if full else []


def create_panels(
    ablations: Sequence[Ablation], panel_height: float, *, max_columns: int = 4, share_y_axis: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure with a panel per ablation, titled with its name, and the list of these panels.

    Args:
        panel_height: height of a panel in inches.
        max_columns: largest number of panels side by side.
        share_y_axis: give all panels the same vertical axis.
    """
    columns = min(max_columns, len(ablations))
    rows = math.ceil(len(ablations) / columns)
    figure = Figure(figsize=(FIGURE_WIDTH, 1.2 + panel_height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=share_y_axis).flatten()
    for axes, ablation in zip(panels, ablations, strict=False):
        axes.set_title("\n".join(textwrap.wrap(ablation.name, 96 // max_columns)), loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    for unused in panels[len(ablations) :]:
        unused.set_axis_off()
    return figure, list(panels[: len(ablations)])


def label_rows(ablations: Sequence[Ablation], axes: Axes) -> None:
    """Label the rows of `axes` with the names of the ablations, the first on top."""
    axes.set_yticks(range(len(ablations)), [textwrap.shorten(ablation.name, 60) for ablation in ablations])
    axes.set_ylim(len(ablations) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def draw_tiles(
    axes: Axes,
    shades: Float[np.ndarray, "rows columns"],
    cell_text: Callable[[int, int], str],
    *,
    row_names: Sequence[str],
    column_names: Sequence[str],
) -> None:
    """Draw a table of coloured cells.

    Args:
        shades: shade of each cell, from 0 (white) to 1 (dark blue); NaN is grey.
        cell_text: function that returns the text of the cell at (row, column).
        row_names: labels at the left of the rows.
        column_names: labels above the columns.
    """
    colors = mpl.colormaps["Blues"].with_extremes(bad="#eeeeee")
    # vmax above 1 leaves out the darkest blue, on which black text cannot be read
    axes.imshow(np.ma.masked_invalid(shades), cmap=colors, vmin=0, vmax=1.1, aspect="auto")
    for (row, column), shade in np.ndenumerate(shades):
        color = "white" if shade > 0.6 else "black"
        axes.text(column, row, cell_text(row, column), ha="center", va="center", color=color)
    axes.set_xticks(range(len(column_names)), column_names)
    axes.set_yticks(range(len(row_names)), row_names)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(np.arange(len(column_names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(row_names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
