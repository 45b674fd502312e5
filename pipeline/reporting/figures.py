"""The four figures of the report: runs by ablation, lines, heat maps and forest plots.

They take labels and numbers alone. Call them within `style.draw_image`, which sets the font and its size. Labels are
wrapped, and a figure grows with its rows. An empty label or title is not written. All lengths are in inches.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.reporting import style
from pipeline.reporting.style import FIGURE_WIDTH, LINE_HEIGHT, axis_limits, finish, legend_handle, text_width, wrap

LABEL_WIDTH = 3.4  # of the rows, at most
BLUE, BLUES = style.PALETTE[1], ListedColormap(mpl.colormaps["Blues"](np.linspace(0.06, 0.9, 64)))
Look = dict[str, Any]
Interval = tuple[float, float, float]
"""A value and the ends of its interval; what is NaN is not drawn."""
Cells = Mapping[tuple[str, str], tuple[float, str, bool]]
"""Shade, text and hatching of the cells of a `Heat`, by the names of their row and column."""
MAP_LABELS = {"x_label": "MLPs without residual connection", "y_label": "attentions without residual connection"}
"""Labels of the axes of a figure with `residual_heat`."""


@dataclass(frozen=True)
class Strip:
    """The runs of an ablation, a row of `draw_strip`, with a note at its right. Numbers are in the unit of the axis."""

    label: str
    values: Float[np.ndarray, " runs"]  # the budget for a run that did not converge
    converged: Bool[np.ndarray, " runs"]
    mean: Interval
    note: str
    color: str


@dataclass(frozen=True)
class Line:
    """A line of `draw_lines`, in the units of the axes."""

    label: str
    points: Float[np.ndarray, "points 4"]  # x, y, and the ends of the interval of y
    color: str
    dashes: str = "-"  # a line style of matplotlib


@dataclass(frozen=True)
class Heat:
    """A table of coloured cells, a panel of `draw_heat`."""

    rows: Sequence[str]
    columns: Sequence[str]
    shades: Float[np.ndarray, "rows columns"]  # from 0 (lightest) to 1 (darkest); NaN for an empty cell: white
    texts: Sequence[Sequence[str]] = ()  # of each cell, by row; not written if the widest does not fit into a cell
    hatched: Bool[np.ndarray, "rows columns"] | bool = False  # True for cells that are impossible by proof


@dataclass(frozen=True)
class Mark:
    """An estimate with its interval: a row of `draw_forest`, in the unit of the axis."""

    label: str
    estimate: Interval
    is_bound: bool = False  # True if no run converged: the value is the budget, and the true one lies to its right


def draw_strip(groups: Mapping[str, Sequence[Strip]], *, x_label: str, legend: Mapping[str, str]) -> Figure:
    """Draw a mark per run and the mean per ablation: a row per strip, below the bold name of its group.

    `legend` maps the meaning of a colour to the colour.
    """
    rows = [row for name, group in groups.items() for row in (name, *group) if row]
    figure, (axes,), _ = _create_panels([""], x_label, gutter=LABEL_WIDTH)
    edges = _label_rows(axes, [row.label if isinstance(row, Strip) else str(row) for row in rows], bold=groups)
    strips = [(y, row) for y, row in zip(axes.get_yticks(), rows, strict=True) if isinstance(row, Strip)]
    left, right = axis_limits([x for _, strip in strips for x in (*strip.values, *strip.mean)])
    axes.set_xlim(left, right)
    for y, strip in strips:
        touching = pd.Series(strip.values).groupby(np.round(70 * strip.values / (right - left))).cumcount()
        heights = y + np.array((0.0, -0.06, 0.06, -0.12, 0.12))[touching % 5]
        for marker, chosen in (("o", strip.converged), ("x", ~strip.converged)):
            look = Look(color=strip.color, linestyle="", mew=1.2, markersize=5, alpha=0.8, zorder=3, clip_on=False)
            if chosen.any():
                axes.plot(strip.values[chosen], heights[chosen], marker, **look)
        mean, low, high = strip.mean
        axes.axhline(y, color=style.LIGHT_GREY, linewidth=0.8, zorder=0)
        axes.plot([low, high], [y, y], color="black", linewidth=1.4, zorder=4)
        axes.vlines(mean, y - 0.12, y + 0.12, color="black", linewidth=2.4, zorder=4)
        if not strip.converged.all():  # the mean is a lower bound
            axes.plot(mean, y, ">", color="black", markersize=8, zorder=4)
        axes.text(1.02, y, strip.note, va="center_baseline", transform=axes.get_yaxis_transform())
    handles = [legend_handle(label, color, marker="o", linestyle="") for label, color in legend.items()]
    if not all(strip.converged.all() for _, strip in strips):
        handles.append(legend_handle("not converged", marker="x", linestyle=""))
        handles.append(legend_handle("mean is at least", "black", marker=">", linestyle="", markersize=8))
    mean_handle = legend_handle("mean, 95 % interval", "black", marker="|", markersize=11, markeredgewidth=2.4)
    finish(figure, [*handles, mean_handle], edges[-1])
    return figure


def draw_lines(panels: Mapping[str, Sequence[Line]], *, x_label: str, y_label: str = "") -> Figure:
    """Draw lines, with their intervals as light bands: up to six panels, title -> lines.

    Values of x are whole. Without `y_label`, the title of each panel is at its vertical axis, too.
    """
    figure, grid, columns = _create_panels(list(panels), x_label, gutter=1)
    panel_height = (3.3, 2.7, 2.2)[columns - 1]
    for axes, (title, lines) in zip(grid, panels.items(), strict=True):
        for line in lines:
            x, y, low, high = line.points.T
            marker, look = "o" if len(x) <= 12 else "", Look(color=line.color, linewidth=2.2, zorder=3)
            axes.plot(x, y, linestyle=line.dashes, marker=marker, markersize=5, clip_on=False, **look)
            axes.fill_between(x, low, high, color=line.color, alpha=0.15, linewidth=0)
            if len(x) == 1:  # a band has no width there
                axes.vlines(x, low, high, **look)
        axes.set_ylim(axis_limits(np.concatenate([line.points[:, 1:].ravel() for line in lines])))
        axes.xaxis.set_major_locator(MaxNLocator((8, 6, 4)[columns - 1], integer=True, min_n_ticks=1))
        axes.set_ylabel(wrap(y_label or title, panel_height))
    labelled = {line.label: line for lines in panels.values() for line in lines}
    handles = [legend_handle(label, line.color, linestyle=line.dashes) for label, line in labelled.items()]
    finish(figure, handles, panel_height)
    return figure


def draw_heat(
    panels: Mapping[str, Heat], *, x_label: str, y_label: str, color_label: str, legend_hatched: str = ""
) -> Figure:
    """Draw tables of coloured cells, up to six: title -> table. `color_label` says what a shade from 0 to 1 means."""
    heats = list(panels.values())
    is_shared = all(heat.rows == heats[0].rows for heat in heats)  # then their labels are written once, at the left
    gutter = text_width(*(wrap(row, LABEL_WIDTH) for heat in heats for row in heat.rows))
    figure, grid, columns = _create_panels(list(panels), x_label, gutter=gutter + 1)
    panel_width = (FIGURE_WIDTH - 1.2 - gutter * (1 if is_shared else columns)) / columns - 0.25
    cell = panel_width / max(len(heat.columns) for heat in heats)
    has_texts = 0 < text_width(*(text for heat in heats for row in heat.texts for text in row)) < cell - 0.06
    height = 0.8  # of a panel
    for index, (axes, heat) in enumerate(zip(grid, heats, strict=True)):
        edges = _label_rows(axes, heat.rows, is_hidden=is_shared and index % columns > 0)
        x, look = np.arange(len(heat.columns) + 1), Look(edgecolors="white", linewidth=1.5)
        hatched = np.broadcast_to(heat.hatched, heat.shades.shape)
        shades = np.ma.masked_where(hatched | np.isnan(heat.shades), heat.shades)
        axes.pcolormesh(x, edges, shades, cmap=BLUES, vmin=0, vmax=1, **look)
        proved = np.ma.masked_where(~hatched, hatched)
        axes.pcolor(x, edges, proved, cmap="Greys", vmin=0, vmax=16, hatch="///", **look)  # 1 of 16: light grey
        for row, column in np.ndindex(shades.shape) if has_texts else ():
            color = "white" if shades.filled(0)[row, column] > 0.6 else "black"
            y = float(axes.get_yticks()[row])
            axes.text(column + 0.5, y, heat.texts[row][column], color=color, ha="center", va="center_baseline")
        height = max(height, edges[-1])
        _label_columns(axes, heat.columns, cell, on_top=len(heats) == 1)
    for axes in grid[::columns]:
        axes.set_ylabel(wrap(y_label, height))
    total = height * math.ceil(len(heats) / columns)
    scale: Look = {"ticks": [0, 0.5, 1], "format": "{x:g}", "aspect": 15, "shrink": min(1, 2.5 / total), "pad": 0.03}
    figure.colorbar(ScalarMappable(cmap=BLUES), ax=grid, label=wrap(color_label, min(3, total)), **scale)
    proof = Patch(label=wrap(legend_hatched, 8), facecolor="white", edgecolor=style.GREY, hatch="///")
    finish(figure, [proof] if any(np.any(heat.hatched) for heat in heats) else [], height)
    return figure


def residual_heat(cells: Cells, layers: int) -> Heat:
    """Return the table of all patterns of residual connections.

    Rows and columns name the layers without the connection around the attention and around the MLP: `("0 1", "none")`.
    """
    subsets = [layer_names(chosen) for size in range(layers + 1) for chosen in combinations(range(layers), size)]
    return arrange_cells(cells, subsets, subsets)


def layer_names(layers: Iterable[int | str]) -> str:
    """Return the name of a row or column of `residual_heat`: `0 1`, or `none` without layers."""
    return " ".join(map(str, layers)) or "none"


def arrange_cells(cells: Cells, rows: Sequence[str], columns: Sequence[str]) -> Heat:
    """Return the table of cells; those that are not in `cells` are empty."""
    grid = [[cells.get((row, column), (np.nan, "", False)) for column in columns] for row in rows]
    shades, hatched = (np.array([[cell[part] for cell in row] for row in grid]) for part in (0, 2))
    return Heat(rows, columns, shades, [[cell[1] for cell in row] for row in grid], hatched)


def _label_columns(axes: Axes, labels: Sequence[str], cell: float, *, on_top: bool) -> None:
    """Write the labels of columns as wide as `cell`, upright if a word does not fit."""
    is_upright = max(map(len, " ".join(labels).split()), default=0) * style.CHARACTER_WIDTH + 0.06 > cell
    upright_width = max(2.4, 1.2 * text_width(*labels) * LINE_HEIGHT / cell)  # so that its lines fit side by side
    wrapped = [wrap(label, upright_width if is_upright else cell - 0.06) for label in labels]
    step = math.ceil(LINE_HEIGHT / cell)
    axes.set_xticks(np.arange(len(labels))[::step] + 0.5, wrapped[::step], rotation=90 if is_upright else 0)
    axes.tick_params(axis="x", length=0, labeltop=on_top, labelbottom=not on_top)
    axes.xaxis.set_label_position("top" if on_top else "bottom")
    axes.spines["bottom"].set_visible(False)


def draw_forest(
    panels: Mapping[str, Sequence[Mark]], *, x_label: str, references: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Draw estimates with their intervals: a panel per title, a row per label.

    `references` maps a title to vertical lines: label -> value.
    """
    names = list(dict.fromkeys(mark.label for marks in panels.values() for mark in marks))
    gutter = text_width(*(wrap(name, LABEL_WIDTH) for name in names))
    figure, grid, columns = _create_panels(list(panels), x_label, gutter=gutter)
    dashes = dict(zip(dict.fromkeys(chain(*references.values())), cycle((":", "--", "-.", "-")), strict=False))
    for index, (axes, (title, marks)) in enumerate(zip(grid, panels.items(), strict=True)):
        edges = _label_rows(axes, names, is_hidden=index % columns > 0)
        if index:
            axes.sharex(grid[0])
        for label, x in references.get(title, {}).items():
            axes.axvline(x, color=style.DARK_GREY, linestyle=dashes[label], linewidth=1.4, zorder=1)
        for mark in marks:
            y, face = axes.get_yticks()[names.index(mark.label)], "white" if mark.is_bound else BLUE
            value, low, high = mark.estimate
            axes.plot([low, high], [y, y], color=BLUE, linewidth=2.2)
            axes.plot(value, y, "o", color=BLUE, markerfacecolor=face, markersize=7, mew=1.6, zorder=3)
            if mark.is_bound:
                arrow = {"arrowstyle": "<-", "color": BLUE, "shrinkB": 5, "linewidth": 1.6}
                axes.annotate("", (value, y), (24, 0), textcoords="offset points", arrowprops=arrow)
        axes.margins(x=0.05 * (1 + columns))  # room for an arrow
    grid[0].xaxis.set_major_locator(MaxNLocator((8, 5, 3)[columns - 1]))
    handles = [legend_handle("95 % interval", BLUE, marker="o", linewidth=2.2)]
    if any(mark.is_bound for marks in panels.values() for mark in marks):
        label = "no run converged: at least the budget"
        handles.append(legend_handle(label, BLUE, marker="o", linestyle="", markerfacecolor="white"))
    handles += [legend_handle(label, linestyle=dashes[label]) for label in dashes]
    finish(figure, handles, edges[-1])
    return figure


def _create_panels(titles: Sequence[str], x_label: str, *, gutter: float) -> tuple[Figure, list[Axes], int]:
    """Return a figure with titled panels, these, and how many are side by side. A gutter is at the left of all."""
    columns = 2 if len(titles) == 4 else min(len(titles), 3)
    rows, width = math.ceil(len(titles) / columns), (FIGURE_WIDTH - gutter) / columns - 0.3
    figure = Figure(figsize=(FIGURE_WIDTH, 20 * rows), layout="constrained")
    grid = [figure.add_subplot(rows, columns, index + 1) for index in range(len(titles))]
    for index, axes in enumerate(grid):
        axes.set_title(wrap(titles[index], 0.88 * width))  # bold text is wider
        axes.set_xlabel(wrap(x_label, width) if index // columns == rows - 1 else "")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}".replace("-", "−")))
    return figure, grid, columns


def _label_rows(axes: Axes, labels: Sequence[str], bold: Collection[str] = (), is_hidden: bool = False) -> np.ndarray:
    """Write the labels of rows, flush left, at ticks. Return the edges of the rows, in inches from the top."""
    wrapped = [wrap(label, LABEL_WIDTH) for label in labels]
    least = 0.33 if len(labels) <= 24 else 0.26
    edges = np.cumsum([0.0, *(max(least, LINE_HEIGHT * label.count("\n") + 0.26) for label in wrapped)])
    axes.set_yticks((edges[1:] + edges[:-1]) / 2, [""] * len(labels) if is_hidden else wrapped, ha="left")
    for tick, label in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("bold" if label in bold else "normal")
    width = max(tick.get_window_extent().width for tick in axes.get_yticklabels()) / axes.figure.dpi
    axes.tick_params(axis="y", length=0, pad=72 * width + 6)
    axes.set_ylim(edges[-1], 0)
    axes.spines["left"].set_visible(False)
    return edges
