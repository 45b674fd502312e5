"""What all figures share: size, colours, marks, legends, a panel per ablation, and the way to PNG.

A figure is 10 inches wide and its text at least 11 points, so that it can be read at the 900 to 1,000 pixels a code
host gives it. Colours tell the positional encoding, marks the attention, both by their order in `params`; both can be
told apart without seeing colours. The same table gives the same bytes.
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

WIDTH = 10.0
DOTS_PER_INCH = 130
INK = ("#D55E00", "#0072B2", "#009E73", "#8E4585", "#7A5C00", "#000000", "#C44E8A", "#3A86B8")
"""After Okabe and Ito, some darkened to be seen on white."""
MARKS = "os^DvPX"
GREY, DARK, LIGHT = "#999999", "#555555", "#e8e8e8"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # matplotlib's own, so the same everywhere
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
MEANINGS = {r"\bnope\b": "nope: no positional encoding", r"residual-\d|layer \d": "layers count from 0"}
"""What is seen in a figure -> what is said of it there."""
SHARE = [0.0, 0.25, 0.5, 0.75, 1.0]
SHARES = [f"{tick:.0%}" for tick in SHARE]


def png(draw: Callable[[], Figure]) -> bytes:
    """The figure that `draw` gives, as PNG of 256 colours, which takes a third of the bytes, without date or version in
    it."""
    buffer = io.BytesIO()
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE}):
        figure = draw()
        _say_what_names_mean(figure)
        figure.set_dpi(DOTS_PER_INCH)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # once, where savefig lays it out twice
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _say_what_names_mean(figure: Figure) -> None:
    """Below the panels: what the names of ablations and numbers of layers that are seen do not say themselves."""
    seen = " ".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())
    meanings = [meaning for sign, meaning in MEANINGS.items() if re.search(sign, seen)]
    if meanings:
        note = "; ".join(meanings)
        figure.legend(handles=[], title=note, loc="outside lower left", frameon=False, title_fontsize=10, borderpad=0)


def color(ablation: Ablation) -> str:
    """That of the ablation's positional encoding."""
    return INK[get_args(PositionalName).index(ablation.model.positional) % len(INK)]


def marker(ablation: Ablation) -> str:
    """That of the ablation's attention."""
    return MARKS[get_args(AttentionName).index(ablation.model.attention) % len(MARKS)]


def add_legend(figure: Figure, handles: Sequence[Artist], *, columns: int = 4) -> None:
    """Put a legend above the panels."""
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False, handletextpad=0.5)


def encoding_handles(ablations: Sequence[Ablation], **style: Any) -> list[Line2D]:
    """What the colours mean: a handle for each positional encoding among `ablations`."""
    first = {ablation.model.positional: ablation for ablation in reversed(ablations)}
    return [
        Line2D([], [], color=color(first[name]), label=switches.positional_in_words(name), **style)
        for name in get_args(PositionalName)
        if name in first
    ]


def full_attention_handles(ablations: Sequence[Ablation], **style: Any) -> list[Line2D]:
    """A handle that says which marks or lines are full attention, where there are any."""
    full = any(ablation.model.attention == "full" for ablation in ablations)
    return [Line2D([], [], color=DARK, label="full attention", **style)] if full else []


def ablation_panels(
    ablations: Sequence[Ablation], height: float, *, across: int = 4, shared: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel per ablation, at most `across` side by side; `shared`: with one vertical axis."""
    columns = min(across, len(ablations))
    rows = math.ceil(len(ablations) / columns)
    figure = Figure(figsize=(WIDTH, 1.2 + height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=shared).flatten()
    for axes, ablation in zip(panels, ablations, strict=False):
        axes.set_title("\n".join(textwrap.wrap(ablation.name, 96 // across)), loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    for unused in panels[len(ablations) :]:
        unused.set_axis_off()
    return figure, list(panels[: len(ablations)])


def name_rows(ablations: Sequence[Ablation], axes: Axes) -> None:
    """Name the rows of `axes` by the ablations, the first on top."""
    axes.set_yticks(range(len(ablations)), [textwrap.shorten(ablation.name, 60) for ablation in ablations])
    axes.set_ylim(len(ablations) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def draw_tiles(
    axes: Axes,
    shades: Float[np.ndarray, "rows columns"],
    text: Callable[[int, int], str],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
) -> None:
    """A table whose cells are coloured by `shades` (from 0 to 1; grey where there is none), with a `text` in each."""
    colors = mpl.colormaps["Blues"].with_extremes(bad="#eeeeee")
    # up to 0.9 of the map only: its darkest blue is hard to tell from black print
    axes.imshow(np.ma.masked_invalid(shades), cmap=colors, vmin=0, vmax=1.1, aspect="auto")
    for (row, column), shade in np.ndenumerate(shades):
        color = "white" if shade > 0.6 else "black"
        axes.text(column, row, text(row, column), ha="center", va="center", color=color)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
