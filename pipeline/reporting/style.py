"""The style that all figures share: size, colours, wrapped labels, legend, and export as an image.

An image is 10 inches wide and its text 11 points, so that it can be read at the 900 pixels that a code host gives it.
The background is white with a margin, also on a dark page.
"""

import io
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.textpath import TextPath
from PIL import Image, ImageOps

DOTS_PER_INCH = 130
MARGIN = 0.1
"""White margin around every figure, in inches."""
FIGURE_WIDTH = 10 - 2 * MARGIN
FONT, FONT_SIZE = "DejaVu Sans", 11
"""Font, which comes with matplotlib and so is the same on every machine, and its size in points."""
LINE_HEIGHT, CHARACTER_WIDTH = 0.18, 0.088
"""Height of a line of text, and generous width of a character, in inches."""
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#8E4585", "#7A5C00", "#000000", "#C44E8A", "#3A86B8")
"""Colours of Okabe and Ito, some darkened for a white background; colour-blind readers can tell them apart."""
GREY, DARK_GREY, LIGHT_GREY = "#999999", "#555555", "#e8e8e8"
TEXT_ELEMENTS = ("font.", "axes.title", "axes.label", "figure.label", "legend.font", "xtick.label", "ytick.label")
MATPLOTLIB_SETTINGS: dict[Any, Any] = {
    **{f"{element}size": FONT_SIZE for element in TEXT_ELEMENTS},
    "font.family": FONT,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.color": "#c4c4c4",
    "figure.constrained_layout.wspace": 0.04,
}
"""Settings that must be in force while a figure is built and drawn, as in `draw_image`."""


def draw_image(draw: Callable[[], Figure]) -> bytes:
    """Draw a figure and return it as lossless WebP of at most 256 colours; the same figure gives the same bytes."""
    with mpl.rc_context({**mpl.rcParamsDefault, **MATPLOTLIB_SETTINGS}):
        figure = draw()
        figure.set_dpi(DOTS_PER_INCH)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # faster than savefig, which computes the layout twice
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture = ImageOps.expand(picture, round(MARGIN * DOTS_PER_INCH), "white")
    picture = picture.quantize(256, kmeans=1, dither=Image.Dither.NONE).convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", lossless=True, quality=100, method=4)
    return buffer.getvalue()


def wrap(text: str, inches: float) -> str:
    """Break a text into as few lines as fit into a width, and these into lines of similar length."""
    most = max(6, int(inches / CHARACTER_WIDTH))
    least = min(most, max(map(len, text.split()), default=1))  # so that no word is broken that need not be
    lines = len(textwrap.wrap(text, most))
    return next(textwrap.fill(text, n) for n in range(least, most + 1) if len(textwrap.wrap(text, n)) == lines)


def text_width(*texts: str) -> float:
    """Return the width of the widest line of some texts, in inches; 0 without texts."""
    lines = [line for text in texts for line in text.split("\n") if line.strip()]
    paths = (TextPath((0, 0), line, size=FONT_SIZE, prop=FontProperties(family=FONT)) for line in lines)
    return max((float(path.get_extents().width) for path in paths), default=0.0) / 72


def legend_handle(label: str, color: str = DARK_GREY, **look: Any) -> Line2D:
    """Return a handle of the legend that shows a line, or a marker, with its label."""
    return Line2D([], [], color=color, label=wrap(label, 6.0), **{"markersize": 6, "markeredgewidth": 1.3, **look})


def finish(figure: Figure, handles: Sequence[Line2D | Patch], panel_height: float) -> None:
    """Add a legend above the panels, and make the figure so tall that each panel has its height, in inches."""
    widths = [text_width(str(handle.get_label())) + 0.8 for handle in handles]
    for columns in range(len(handles), 0, -1):  # as many as fit side by side
        if sum(max(column) for column in np.array_split(widths, columns)) < FIGURE_WIDTH or columns == 1:
            figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False, handletextpad=0.5)
            break
    figure.draw_without_rendering()  # computes how tall the panels are now
    missing = max(0.6, panel_height) - figure.axes[0].bbox.height / figure.dpi
    rows = figure.axes[0].get_gridspec().nrows  # type: ignore[union-attr]
    figure.set_figheight(figure.get_figheight() + rows * missing)


def axis_limits(values: Iterable[float]) -> tuple[float, float]:
    """Return the ends of an axis: from 0 if the values come near, or else those of the values, with a margin."""
    finite = [value for value in values if np.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    margin = 0.04 * (high - low) or 0.5
    return (0.0 if 0 <= low <= high / 2 else low - margin), high + margin
