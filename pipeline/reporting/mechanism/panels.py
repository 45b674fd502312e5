"""What every measurement has in common: means over seeds with their intervals, and a figure with a panel per cell."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy import stats

from pipeline.measurement.intervals import CONFIDENCE, RESAMPLES
from pipeline.reporting.evidence import each
from pipeline.reporting.figures import COLORS, WIDTH, encodings, explain
from pipeline.reporting.mechanism.pairs import initial, trained

GREY = "#999999"
MEMBER = ("ablation", "seed", "step", "trained")
"""The columns that say whose a row is, and when."""


def summary(table: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    """Means over seeds: `ablation, step, trained`, the table's keys, then `value, mean, low, high, n` for each of
    `values`, with the bootstrap 95% interval of the mean. Members that are trained count together whatever their step
    was, which is then left out."""
    if table.empty:
        return pd.DataFrame(columns=["ablation", "step", "trained", "value", "mean", "low", "high", "n"])
    keys = [str(column) for column in table if column not in (*MEMBER, *values)]
    table = table.assign(step=table["step"].where(table["trained"] == 0))
    by = ["ablation", "step", "trained", *keys]
    found = []
    for value in values:
        groups = table.dropna(subset=[value]).groupby(by, sort=False, dropna=False)[value]
        rows = groups.agg(["mean", "count"]).rename(columns={"count": "n"}).reset_index()
        rows[["low", "high"]] = _intervals([group.tolist() for _, group in groups])
        found.append(rows.assign(value=value))
    return pd.concat(found)[[*by, "value", "mean", "low", "high", "n"]].astype({"step": "Int64"})


def _intervals(groups: Sequence[Sequence[float]]) -> Float[np.ndarray, "groups 2"]:
    """`bootstrap_interval` of many means at once: those of as many values share their resamples."""
    found = np.empty((len(groups), 2))
    for size in {len(group) for group in groups}:
        chosen = [index for index, group in enumerate(groups) if len(group) == size]
        values = np.array([list(groups[index]) for index in chosen], np.float64)
        if size == 1:
            found[chosen] = values
            continue
        interval = stats.bootstrap(
            (values,),
            np.mean,
            axis=-1,
            confidence_level=CONFIDENCE,
            n_resamples=RESAMPLES,
            batch=100,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        found[chosen] = np.stack((interval.low, interval.high), axis=-1)
    return found


def axis_of(table: pd.DataFrame) -> str | None:
    """The key to draw along: layers, where there are any."""
    return next((name for name in ("depth", "layer") if name in table), None)


def grid_of(cells: pd.DataFrame, height: float, *, shared: bool = True) -> tuple[Figure, list[Axes]]:
    """A panel per cell, at most four side by side; `shared`: with one vertical axis."""
    columns = min(4, len(cells))
    rows = math.ceil(len(cells) / columns)
    figure = Figure(figsize=(WIDTH, 1.2 + height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=shared).flatten()
    for axes, name in zip(panels, cells["ablation"], strict=False):
        axes.set_title("\n".join(textwrap.wrap(name, 24)), loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    for unused in panels[len(cells) :]:
        unused.set_axis_off()
    return figure, list(panels[: len(cells)])


def moments(cells: pd.DataFrame, *, dashed: str = "", dotted: str = "", **style: Any) -> list[Line2D]:
    """The legend of a figure of members, trained in colour and untrained in grey; `dashed`, `dotted`: what such lines
    are, if there are any."""
    handles = [*encodings(cells, **style), Line2D([], [], color=GREY, label="before training", **style)]
    if dashed:
        handles.append(Line2D([], [], color="#555555", linestyle="--", linewidth=1.3, label=dashed))
    if dotted:
        handles.append(Line2D([], [], color="black", linestyle=":", linewidth=1.3, label=dotted))
    return handles


def lines(
    table: pd.DataFrame,
    cells: pd.DataFrame,
    value: str,
    *,
    along: str,
    labels: tuple[str, str],
    reference: tuple[float, str] | None = None,
    dashed: tuple[pd.DataFrame, str] | None = None,
) -> Figure:
    """A panel per cell, a line per member: as trained in the colour of its positional encoding, untrained in grey.

    Args:
        table: a row per member and place along `along`.
        labels: of the two axes.
        reference: what there would be without anything to find, and how to call it; dotted.
        dashed: a second such table, and what it is.
    """
    figure, panels = grid_of(cells, 2.0)
    for axes, cell in zip(panels, each(cells), strict=True):
        for rows, style in ((table, "-"), *([(dashed[0], "--")] if dashed else [])):
            own = rows[rows["ablation"] == cell["ablation"]]
            for moment, color in ((initial(own), GREY), (trained(own), COLORS[cell["positional"]])):
                for _, line in moment.groupby("seed", sort=False):
                    axes.plot(line[along], line[value], style, color=color, linewidth=1.3, alpha=0.75)
                    if style == "-":
                        axes.plot(line[along], line[value], "o", color=color, markersize=3, alpha=0.75)
        if reference:
            axes.axhline(reference[0], color="black", linestyle=":", linewidth=1.3)
    figure.supxlabel(labels[0], fontsize=11)
    figure.supylabel(labels[1], fontsize=11)
    words = {"dashed": dashed[1] if dashed else "", "dotted": reference[1] if reference else ""}
    explain(figure, moments(cells, marker="o", markersize=3, linewidth=1.3, **words))
    return figure


def dots(
    table: pd.DataFrame,
    cells: pd.DataFrame,
    value: str,
    *,
    label: str,
    log: bool = False,
    line: tuple[float, str] | None = None,
) -> Figure:
    """A row per cell, a dot per member: as trained in colour, untrained in grey. On a logarithmic axis what is 0 stands
    at the left edge. `line`: a value to mark, and how to call it."""
    figure = Figure(figsize=(WIDTH, 1.6 + 0.31 * len(cells)), layout="constrained")
    axes = figure.subplots()
    floor = 1e-18
    for place, cell in enumerate(each(cells)):
        own = table[table["ablation"] == cell["ablation"]]
        for moment, color, shift in ((initial(own), GREY, 0.15), (trained(own), COLORS[cell["positional"]], -0.15)):
            shown = moment[value].clip(lower=floor) if log else moment[value]
            axes.plot(shown, [place + shift] * len(shown), "o", color=color, markersize=5, alpha=0.8, clip_on=False)
    if log:
        axes.set(xscale="log", xlim=(floor, None))
    if line:
        axes.axvline(line[0], color="black", linestyle=":", linewidth=1.3)
    axes.set_yticks(range(len(cells)), list(cells["ablation"]))
    axes.set_ylim(len(cells) - 0.4, -0.6)
    axes.set_xlabel(label)
    axes.grid(axis="y", color="#e8e8e8")
    explain(figure, moments(cells, dotted=line[1] if line else "", marker="o", markersize=5, linestyle="none"))
    return figure
