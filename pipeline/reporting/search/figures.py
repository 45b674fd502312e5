"""Figures of a search."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.reporting import style
from pipeline.reporting.search.results import SUBLAYERS, SearchResults
from pipeline.reporting.style import FIGURE_WIDTH, SHARE_LABELS, SHARE_TICKS
from pipeline.reporting.wording import format_count

MARKERS = "osDphH8P"
"""Matplotlib's marker for each number of layers."""
DEPTH_COLORS = ("#666666", "#C44E00", "#0072B2", "#00805C", "#8E4585", "#7A5C00", "#3A86B8", "#000000")
"""Marker colour for each number of layers, dark enough for white digits on the marker."""
MAX_PANELS_PER_ROW = 5
"""Largest number of panels that the residual map shows side by side."""
MAX_MARKER_DIAMETER = 18.0
"""Largest diameter of a marker in points; two digits fit in."""


def draw_pareto_front(results: SearchResults) -> Figure:
    """Draw the share of runs converged against the number of residual connections kept, with the Pareto front.

    A marker stands for all configurations with the same result and number of layers, and shows how many these are.
    Markers of the same result stand side by side.
    """
    figure = Figure(figsize=(FIGURE_WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    known = results.distinct_trials
    marks = known.groupby(["residuals_kept", "converged_share", "layers"]).size().reset_index(name="count")
    by_result = marks.groupby(["residuals_kept", "converged_share"])["layers"]
    kept = marks["residuals_kept"].astype(float)
    low, high = (kept.min() - 0.5, kept.max() + 0.5) if len(kept) else (0.0, 1.0)
    side_by_side = by_result.transform("size")
    unit = (FIGURE_WIDTH - 1) * 72 / (high - low)  # points
    gap = min(1.25 * MAX_MARKER_DIAMETER / unit, 0.9 / max(side_by_side, default=1))  # no mark reaches the next number
    size = min(MAX_MARKER_DIAMETER, gap * unit / 1.25)
    aside = by_result.rank() - (side_by_side + 1) / 2
    marks["x"] = kept + gap * aside
    for index, (layers, rows) in enumerate(marks.groupby("layers")):
        style: dict[str, Any] = {
            "marker": MARKERS[index % len(MARKERS)],
            "color": DEPTH_COLORS[index % len(DEPTH_COLORS)],
            "linewidths": 0,
        }
        axes.scatter(rows["x"], rows["converged_share"], s=size**2, clip_on=False, zorder=3, **style)
        axes.scatter([], [], s=80, label=format_count(int(str(layers)), "layer"), **style)
        for x, share, count in zip(rows["x"], rows["converged_share"], rows["count"], strict=True):
            if count > 1 and size >= 7 * len(str(count)) + 1:  # there is room
                axes.text(x, share, str(count), color="white", ha="center", va="center_baseline", zorder=4)
    front = results.pareto_front().drop_duplicates(["residuals_kept", "converged_share"])
    if len(front):
        reach = (
            [*front["residuals_kept"].astype(float), high],
            [*front["converged_share"], front["converged_share"].iloc[-1]],
        )
        axes.step(*reach, where="post", color="black", linewidth=1.3, label="front", zorder=2)
        figure.legend(loc="outside upper center", ncols=5, frameon=False)
    axes.set(xlabel="Residual connections kept", ylabel="Runs converged", xlim=(low, high), ylim=(-0.12, 1.12))
    axes.set_yticks(SHARE_TICKS, SHARE_LABELS)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def draw_residual_map(results: SearchResults) -> Figure:
    """Draw, for each residual connection, how often all runs converged in configurations without the connection.

    One panel counts configurations of all depths, and each of the others those with one number of layers.
    """
    counts = results.residual_map_table()
    pooled = counts["layers"].isna()
    panels = [("all depths", counts[pooled])]
    panels += [(format_count(int(str(depth)), "layer"), rows) for depth, rows in counts[~pooled].groupby("layers")]
    columns, deepest = min(MAX_PANELS_PER_ROW, len(panels)), int(counts["layer"].max()) + 1
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(FIGURE_WIDTH, rows * (0.85 + 0.4 * deepest)), layout="constrained")
    all_axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (title, of_depth) in zip(all_axes, panels, strict=False):
        _draw_residual_panel(axes, of_depth, deepest)
        axes.set_title(title)
    for index, axes in enumerate(all_axes):
        axes.set_yticks(range(deepest), [f"layer {layer}" for layer in range(deepest)] if not index % columns else [])
        if index >= len(panels):
            axes.set_axis_off()
    return figure


def _draw_residual_panel(axes: Axes, counts: pd.DataFrame, max_layers: int) -> None:
    """Draw a panel of the residual map: each tile shows `k/n`, its colour the share; grey if nothing was tried."""
    solved, lacking = (np.zeros((max_layers, 2), int) for _ in range(2))
    for row in counts.to_dict("records"):
        tile = row["layer"], SUBLAYERS.index(row["sublayer"])
        solved[tile], lacking[tile] = row["solved"], row["lacking"]
    share = np.divide(solved, lacking, out=np.full((max_layers, 2), np.nan), where=lacking > 0)

    def text(layer: int, sublayer: int) -> str:
        return f"{solved[layer, sublayer]}/{lacking[layer, sublayer]}" if lacking[layer, sublayer] else "–"

    style.draw_tiles(axes, share, text, row_names=[""] * max_layers, column_names=["attention", "MLP"])
    layers = 1 + int(counts["layer"].max())
    if layers < max_layers:
        axes.axhspan(layers - 0.5, max_layers - 0.5, color="white", zorder=3)


def draw_importances(importances_by_parameter: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the importance (PED-ANOVA) of each searched parameter for each objective."""
    figure = Figure(figsize=(FIGURE_WIDTH, 1.5 + 0.5 * len(importances_by_parameter)), layout="constrained")
    axes = figure.subplots()
    objectives = list(
        dict.fromkeys(objective for by_objective in importances_by_parameter.values() for objective in by_objective)
    )
    for index, objective in enumerate(objectives):
        positions = np.arange(len(importances_by_parameter)) + (index - (len(objectives) - 1) / 2) * 0.36
        values = [by_objective.get(objective, 0.0) for by_objective in importances_by_parameter.values()]
        label = "runs converged" if objective == "converged" else "residual connections kept"
        bars = axes.barh(
            positions, values, height=0.34, color=("#0072B2", "#E69F00", "#666666")[index % 3], label=label
        )
        axes.bar_label(bars, labels=[f"{value:.2f}" for value in values], padding=3)
    axes.set_yticks(range(len(importances_by_parameter)), [name.replace("_", " ") for name in importances_by_parameter])
    axes.invert_yaxis()
    axes.set(xlabel="Importance (PED-ANOVA); those for one objective sum to 1", xlim=(0, 1.08))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure
