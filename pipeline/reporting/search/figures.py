"""The figures of a study."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.reporting import style
from pipeline.reporting.search.study import SUBLAYERS, Study
from pipeline.reporting.style import SHARE_LABELS, SHARE_TICKS, WIDTH
from pipeline.reporting.wording import plural

MARKS = "osDphH8P"
INK = ("#666666", "#C44E00", "#0072B2", "#00805C", "#8E4585", "#7A5C00", "#3A86B8", "#000000")
"""By depth; dark enough for white figures on them."""
PANELS = 5
"""How many depths stand side by side."""
LARGEST = 18.0
"""Of a mark, in points: two figures fit in."""


def pareto(study: Study) -> Figure:
    """Share converged against residual connections kept, with the Pareto front.

    A mark per result and depth shows the number of configurations; marks of one result stand side by side."""
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    known = study.evidence
    results = known.groupby(["residuals_kept", "converged_share", "layers"]).size().reset_index(name="count")
    by_result = results.groupby(["residuals_kept", "converged_share"])["layers"]
    kept = results["residuals_kept"].astype(float)
    low, high = (kept.min() - 0.5, kept.max() + 0.5) if len(kept) else (0.0, 1.0)
    side_by_side = by_result.transform("size")
    unit = (WIDTH - 1) * 72 / (high - low)  # points
    gap = min(1.25 * LARGEST / unit, 0.9 / max(side_by_side, default=1))  # no mark reaches the next number
    size = min(LARGEST, gap * unit / 1.25)
    aside = by_result.rank() - (side_by_side + 1) / 2
    results["place"] = kept + gap * aside
    for index, (layers, rows) in enumerate(results.groupby("layers")):
        style: dict[str, Any] = {"marker": MARKS[index % len(MARKS)], "color": INK[index % len(INK)], "linewidths": 0}
        axes.scatter(rows["place"], rows["converged_share"], s=size**2, clip_on=False, zorder=3, **style)
        axes.scatter([], [], s=80, label=plural(int(str(layers)), "layer"), **style)
        for place, share, count in zip(rows["place"], rows["converged_share"], rows["count"], strict=True):
            if count > 1 and size >= 7 * len(str(count)) + 1:  # there is room
                axes.text(place, share, str(count), color="white", ha="center", va="center_baseline", zorder=4)
    front = study.pareto_front().drop_duplicates(["residuals_kept", "converged_share"])
    if len(front):
        reach = (
            [*front["residuals_kept"].astype(float), high],
            [*front["converged_share"], front["converged_share"].iloc[-1]],
        )
        axes.step(*reach, where="post", color="black", linewidth=1.3, label="front", zorder=2)
        figure.legend(loc="outside upper center", ncols=5, frameon=False)
    axes.set(xlabel="Residual connections kept", ylabel="Members converged", xlim=(low, high), ylim=(-0.12, 1.12))
    axes.set_yticks(SHARE_TICKS, SHARE_LABELS)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def residual_map(study: Study) -> Figure:
    """Layer by sublayer, at all depths together and at each: in how many of the configurations without that connection
    every member converged."""
    found = study.residual_map()
    pooled = found["layers"].isna()
    panels = [("all depths", found[pooled])]
    panels += [(plural(int(str(depth)), "layer"), rows) for depth, rows in found[~pooled].groupby("layers")]
    columns, deepest = min(PANELS, len(panels)), int(found["layer"].max()) + 1
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(WIDTH, rows * (0.85 + 0.4 * deepest)), layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (title, counts) in zip(every, panels, strict=False):
        _shares(axes, counts, deepest)
        axes.set_title(title)
    for place, axes in enumerate(every):
        axes.set_yticks(range(deepest), [f"layer {layer}" for layer in range(deepest)] if not place % columns else [])
        axes.set_axis_on() if place < len(panels) else axes.set_axis_off()
    return figure


def _shares(axes: Axes, counts: pd.DataFrame, deepest: int) -> None:
    """One panel: `k/n` in each ablation, its share as its colour, grey where nothing was tried."""
    solved, lacking = (np.zeros((deepest, 2), int) for _ in range(2))
    for row in counts.to_dict("records"):
        place = row["layer"], SUBLAYERS.index(row["sublayer"])
        solved[place], lacking[place] = row["solved"], row["lacking"]
    share = np.divide(solved, lacking, out=np.full((deepest, 2), np.nan), where=lacking > 0)

    def text(layer: int, sublayer: int) -> str:
        return f"{solved[layer, sublayer]}/{lacking[layer, sublayer]}" if lacking[layer, sublayer] else "–"

    style.draw_tiles(axes, share, text, rows=[""] * deepest, columns=["attention", "MLP"])
    there = 1 + int(counts["layer"].max())
    if there < deepest:  # layers that this depth does not have
        axes.axhspan(there - 0.5, deepest - 0.5, color="white", zorder=3)


def importances(found: Mapping[str, Mapping[str, float]]) -> Figure:
    """How much each parameter has to do with each objective (PED-ANOVA)."""
    figure = Figure(figsize=(WIDTH, 1.5 + 0.5 * len(found)), layout="constrained")
    axes = figure.subplots()
    objectives = list(dict.fromkeys(objective for by_objective in found.values() for objective in by_objective))
    for index, objective in enumerate(objectives):
        places = np.arange(len(found)) + (index - (len(objectives) - 1) / 2) * 0.36
        values = [by_objective.get(objective, 0.0) for by_objective in found.values()]
        label = "members converged" if objective == "converged" else "residual connections kept"
        bars = axes.barh(places, values, height=0.34, color=("#0072B2", "#E69F00", "#666666")[index % 3], label=label)
        axes.bar_label(bars, labels=[f"{value:.2f}" for value in values], padding=3)
    axes.set_yticks(range(len(found)), [name.replace("_", " ") for name in found])
    axes.invert_yaxis()
    axes.set(xlabel="Importance (PED-ANOVA); those for one objective sum to 1", xlim=(0, 1.08))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure
