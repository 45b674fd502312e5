"""The figures of the report: tables in, a matplotlib figure out, and a figure as PNG.

A figure is 10 inches wide and its text at least 11 points, so that it can be read at the 900 to 1,000 pixels a code
host gives it. Colours tell the positional encoding, marks the attention; both can be told apart without seeing
colours. The same table gives the same bytes.
"""

import io
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from pipeline.measurement.intervals import exact_interval
from pipeline.reporting.cells import in_groups
from pipeline.reporting.tables import answered, correct
from pipeline.reporting.wording import percent

WIDTH = 10.0
DOTS_PER_INCH = 130
COLORS = {"none": "#D55E00", "learned": "#0072B2", "sinusoidal": "#009E73", "rotary": "#8E4585", "alibi": "#7A5C00"}
"""By positional encoding; after Okabe and Ito, the last two darkened to be seen on white."""
MARKS = {"causal": "o", "full": "s"}
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
SHARE = [0.0, 0.25, 0.5, 0.75, 1.0]


def png(draw: Callable[[], Figure]) -> bytes:
    """The figure that `draw` gives, as PNG, without date or version in it."""
    buffer = io.BytesIO()
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE}):
        draw().savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def exact_match(runs: pd.DataFrame, cells: pd.DataFrame, ceiling: float | None) -> Figure:
    """The main figure: every run's test exact match, and how many runs of a cell converged.

    Args:
        runs: a row per (ablation, seed).
        cells: `tables.ablations` of them.
        ceiling: the order-blind ceiling, drawn as a dashed line; None where it is not known.
    """
    rows: list[str | pd.Series] = []
    for group, members in in_groups(cells):
        rows += [group, *(cell for _, cell in members.iterrows())]
    figure = Figure(figsize=(WIDTH, 1.75 + 0.31 * len(rows)), layout=ConstrainedLayoutEngine(wspace=0.05))
    scores, converged = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    for place, row in enumerate(rows):
        if isinstance(row, str):
            continue
        for axes in (scores, converged):
            axes.axhline(place, color="#e8e8e8", linewidth=0.8, zorder=0)
        _seeds(scores, runs[runs["ablation"] == row["ablation"]], row, place)
        _converged(converged, row, place)
    if ceiling is not None:
        scores.axvline(ceiling, color="black", linestyle=(0, (4, 3)), linewidth=1.3, zorder=1)
    scores.set(xlim=(-0.02, 1.02), xlabel="Test exact match at the last step")
    converged.set(xlim=(-0.06, 1.62), xlabel="Runs that converged")
    scores.set_xticks(SHARE, [f"{tick:.0%}" for tick in SHARE])
    converged.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
    for axes in (scores, converged):
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    labels = [row if isinstance(row, str) else row["ablation"] for row in rows]
    scores.set_yticks(range(len(rows)), [textwrap.shorten(label, 60) for label in labels])
    for label, row in zip(scores.get_yticklabels(), rows, strict=True):
        if isinstance(row, str):
            label.set_fontweight("bold")
    scores.set_ylim(len(rows) - 0.4, -0.6)
    explain(figure, _legend(cells, ceiling), columns=3)
    return figure


def explain(figure: Figure, handles: Sequence[Line2D], *, columns: int = 4) -> None:
    """Put a legend above the panels."""
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False, handletextpad=0.5)


def encodings(cells: pd.DataFrame, **style: Any) -> list[Line2D]:
    """What the colours mean: a handle for each positional encoding among `cells`."""
    names = {"none": "no positional encoding", "alibi": "ALiBi"}
    return [
        Line2D([], [], color=color, label=names.get(key, f"{key} encoding"), **style)
        for key, color in COLORS.items()
        if (cells["positional"] == key).any()
    ]


def _seeds(axes: Axes, runs: pd.DataFrame, cell: pd.Series, place: int) -> None:
    """Each run as a dot with its exact interval, one above the other, and their median."""
    scores = answered(runs).to_numpy()
    count = len(scores)
    places = place + (np.linspace(-0.26, 0.26, count) if count > 1 else np.zeros(1))
    many = count > 10
    color = COLORS[cell["positional"]]
    intervals = np.array(
        [
            exact_interval(int(right), int(trials))
            for right, trials in zip(correct(runs), runs["test_examples"], strict=True)
        ]
    )
    axes.hlines(places, *intervals.T, color=color, linewidth=0.8, alpha=0.3 if many else 0.8, zorder=2)
    filled = cell["attention"] == "causal"
    axes.scatter(
        scores,
        places,
        s=12 if many else 24,
        marker=MARKS[cell["attention"]],
        facecolors=color if filled else "white",
        edgecolors=color,
        linewidths=1.3,
        alpha=0.5 if many else 1.0,
        zorder=3,
        clip_on=False,
    )
    axes.vlines(np.median(scores), place - 0.38, place + 0.38, color="black", linewidth=2, zorder=4, clip_on=False)


def _converged(axes: Axes, cell: pd.Series, place: int) -> None:
    """The share of runs that converged with its exact interval, and k/n in figures."""
    axes.hlines(place, cell["converged_low"], cell["converged_high"], color="#555555", linewidth=1.5, zorder=2)
    axes.plot(cell["converged"] / cell["runs"], place, "D", color="#222222", markersize=5, zorder=3, clip_on=False)
    axes.text(1.6, place, f"{cell['converged']}/{cell['runs']}", ha="right", va="center")


def _legend(cells: pd.DataFrame, ceiling: float | None) -> list[Line2D]:
    dot: dict[str, Any] = {"linestyle": "none", "markersize": 6}
    handles = encodings(cells, marker="o", **dot)
    if (cells["attention"] == "full").any():
        handles.append(
            Line2D([], [], marker="s", color="#555555", markerfacecolor="white", label="full attention", **dot)
        )
    handles.append(
        Line2D([], [], marker="|", color="black", markersize=11, markeredgewidth=2, linestyle="none", label="median")
    )
    handles.append(Line2D([], [], color="#555555", linewidth=1.5, label="exact 95% interval"))
    if ceiling is not None:
        label = f"order-blind ceiling ({percent(ceiling)})"
        handles.append(Line2D([], [], color="black", linestyle=(0, (4, 3)), linewidth=1.3, label=label))
    return handles


def learning_curves(history: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """Validation exact match over the steps, a panel per cell, a line per seed.

    Args:
        history: `ablation, seed, step, validation_exact_match, ...`, a row per evaluation.
        cells: the cells to show, in the order of the panels.
    """
    columns = min(3, len(cells))
    rows = math.ceil(len(cells) / columns)
    last = max(1, int(history["step"].max()))
    figure = Figure(figsize=(WIDTH, 1.0 + 1.9 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, (_, cell) in zip(panels, cells.iterrows(), strict=False):
        curves = history[history["ablation"] == cell["ablation"]]
        seeds = curves["seed"].nunique()
        for _, curve in curves.groupby("seed", sort=False):
            axes.plot(
                curve["step"],
                curve["validation_exact_match"],
                color=COLORS[cell["positional"]],
                linestyle="-" if cell["attention"] == "causal" else "--",
                linewidth=1.6 if seeds <= 10 else 0.8,
                alpha=max(0.15, min(0.85, 4 / seeds)),
            )
            end = curve.iloc[-1]
            axes.plot(
                end["step"],
                end["validation_exact_match"],
                marker=MARKS[cell["attention"]],
                color=COLORS[cell["positional"]],
                markersize=4,
                clip_on=False,
            )
        axes.set_title("\n".join(textwrap.wrap(cell["ablation"], 30)), loc="left")
        axes.axhline(1, color="#dddddd", linewidth=0.8, zorder=0)
    panels[0].set(xlim=(0, last), ylim=(-0.03, 1.03))
    panels[0].set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    panels[0].set_xticks([0, last / 2, last], ["0", f"{last / 2:,.0f}", f"{last:,}"])
    for unused in panels[len(cells) :]:
        unused.set_axis_off()
    for place in range(len(cells)):
        if place + columns >= len(cells):  # the last panel of its column
            panels[place].tick_params(labelbottom=True)
            panels[place].set_xlabel("Step")
    figure.supylabel("Validation exact match", fontsize=11)
    handles = encodings(cells, linewidth=1.6)
    if (cells["attention"] == "full").any():
        handles.append(Line2D([], [], color="#555555", linestyle="--", linewidth=1.6, label="full attention"))
    handles.append(Line2D([], [], color="#555555", linestyle="none", marker="o", markersize=4, label="last evaluation"))
    explain(figure, handles)
    return figure


def by_digit(table: pd.DataFrame, names: Sequence[str], digits: Sequence[str]) -> Figure:
    """How often each answer character is right: `tables.by_digit` as a heat map with its numbers.

    Args:
        names: the cells, from top to bottom.
        digits: what to call the characters, in the order they are produced.
    """
    values = table.pivot(index="ablation", columns="digit", values="mean").reindex(list(names))
    return _heat_map(values, list(digits), "Answer character, in the order produced")


def by_carries(table: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Exact match by number of carries: `tables.by_carries` as a heat map with its numbers."""
    values = table.pivot(index="ablation", columns="carries", values="mean").reindex(list(names))
    return _heat_map(values, [str(carries) for carries in values.columns], "Carries in the sum")


def _heat_map(values: pd.DataFrame, columns: list[str], label: str) -> Figure:
    figure = Figure(figsize=(WIDTH, 1.3 + 0.33 * len(values)), layout="constrained")
    axes = figure.subplots()
    shares = values.to_numpy(float)
    colors = mpl.colormaps["Blues"].with_extremes(bad="#eeeeee")
    # up to 0.9 of the map only: its darkest blue is hard to tell from black print
    axes.imshow(np.ma.masked_invalid(shares), cmap=colors, vmin=0, vmax=1.1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        color = "white" if share > 0.6 else "black"
        axes.text(column, row, percent(share), ha="center", va="center", color=color)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(values)), list(values.index))
    axes.set_xlabel(label, labelpad=8)
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(values) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    return figure
