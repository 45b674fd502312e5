"""The figures about the slices, the trainability and the cost: tables in, a figure out."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from statsmodels.duration.survfunc import SurvfuncRight

from pipeline.reporting.evidence import each
from pipeline.reporting.figures import COLORS, MARKS, SHARE, WIDTH, encodings, explain
from pipeline.reporting.mechanism import pairs
from pipeline.reporting.mechanism.panels import GREY, grid_of, moments
from pipeline.reporting.tables import answered


def heat_maps(slices: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """How well the token at position j is read above position k: trained, after the last layer, mean over seeds."""
    figure, panels = grid_of(cells, 2.6, shared=False)
    last = pairs.trained(slices)
    image = None
    for axes, cell in zip(panels, each(cells), strict=True):
        rows = last[(last["ablation"] == cell["ablation"]) & (last["depth"] == cell["layers"])]
        if rows.empty:
            axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes)
            axes.set(xticks=[], yticks=[])
            continue
        values = rows.pivot_table(index="position", columns="token_position", values="accuracy")
        image = axes.imshow(values.to_numpy(), cmap="Blues", vmin=0, vmax=1)
        ticks = np.arange(0, len(values), 4)
        axes.set(xticks=ticks, yticks=ticks)
    if image is not None:
        figure.colorbar(image, ax=panels, shrink=min(1.0, 3 / figure.get_figheight()), label="Probe accuracy")
    figure.supxlabel("Token that is read, by its position", fontsize=11)
    figure.supylabel("Column that is read from, by its position", fontsize=11)
    return figure


def ratio_by_depth(ratios: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """The correlation ratio over depth, a line per member."""
    figure, panels = grid_of(cells, 2.0, shared=False)
    known = ratios.loc[ratios["ratio"] > 0, ["ratio", "reference"]]
    limits = (known.min().min() / 1.3, known.max().max() * 1.3) if len(known) else (0.1, 1.0)
    for axes, cell in zip(panels, each(cells), strict=True):
        rows = ratios[ratios["ablation"] == cell["ablation"]]
        for table, color in ((pairs.initial(rows), GREY), (pairs.trained(rows), COLORS[cell["positional"]])):
            for _, line in table.groupby("seed", sort=False):
                axes.plot(line["depth"], line["ratio"], color=color, marker="o", markersize=3, linewidth=1.3, alpha=0.7)
        if len(rows):
            axes.axhline(float(rows["reference"].iloc[0]), color="black", linestyle=":", linewidth=1.3)
        axes.set(yscale="log", ylim=limits)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if limits[1] < 100 * limits[0] else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    figure.supxlabel("Depth (layers passed)", fontsize=11)
    figure.supylabel("Correlation within positions over across", fontsize=11)
    explain(figure, moments(cells, dotted="no structure", marker="o", markersize=3, linewidth=1.3))
    return figure


def start_and_outcome(runs: pd.DataFrame, ranks: pd.DataFrame, pairs_of_cells: Sequence[tuple[str, str]]) -> Figure:
    """A row per pair of plain cell and control: every run's test exact match, and the effective rank at the start.

    Args:
        runs: a row per (ablation, seed).
        ranks: `ablation, seed, depth, effective_rank` of untrained members; may be empty.
    """
    figure = Figure(figsize=(WIDTH, 1.3 + 2.2 * len(pairs_of_cells)), layout="constrained")
    rows = figure.subplots(len(pairs_of_cells), 2, squeeze=False, sharex="col")
    top = 1.05 * float(ranks["effective_rank"].max()) if len(ranks) else 1.0
    for (left, right), pair in zip(rows, pairs_of_cells, strict=True):
        for place, (name, color) in enumerate(zip(pair, (GREY, COLORS["learned"]), strict=True)):
            own = runs[runs["ablation"] == name]
            heights = place + (np.linspace(-0.2, 0.2, len(own)) if len(own) > 1 else np.zeros(len(own)))
            filled = [color if done else "white" for done in own["converged"]]
            left.scatter(answered(own), heights, s=30, facecolors=filled, edgecolors=color, zorder=3, clip_on=False)
            for _, line in ranks[ranks["ablation"] == name].groupby("seed", sort=False):
                right.plot(line["depth"], line["effective_rank"], color=color, marker="o", markersize=3, linewidth=1.3)
        left.set_yticks([0, 1], ["normal start", "identity start"])
        left.set(xlim=(-0.02, 1.02), ylim=(1.5, -0.5))
        left.set_title("\n".join(textwrap.wrap(pair[0], 45)), loc="left")
        left.set_xticks(SHARE, [f"{tick:.0%}" for tick in SHARE])
        right.set_ylim(0, max(top, 1.0))
        right.axhline(1, color="black", linestyle=":", linewidth=1.3)
        right.set_ylabel("Effective rank")
        right.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    rows[-1][0].set_xlabel("Test exact match (filled: converged)")
    rows[-1][1].set_xlabel("Depth (layers passed), untrained")
    handles = [
        Line2D([], [], marker="o", color=color, label=label)
        for color, label in ((GREY, "normal start"), (COLORS["learned"], "identity start"))
    ]
    explain(figure, handles)
    return figure


def survival(curves: dict[str, SurvfuncRight], cells: pd.DataFrame, budget: int) -> Figure:
    """The share of runs not yet converged by step, a panel per cell, the other cells behind it in grey.

    Args:
        curves: Kaplan-Meier estimate of each cell.
        budget: the longest run, in steps.
    """
    figure, panels = grid_of(cells, 2.0)
    for axes, cell in zip(panels, each(cells), strict=True):
        for name, curve in curves.items():
            own = name == cell["ablation"]
            color, width = (COLORS[cell["positional"]], 2.2) if own else ("#dddddd", 0.8)
            steps = np.array([0, *curve.surv_times, curve.time.max()])
            shares = np.array([1.0, *curve.surv_prob, [1.0, *curve.surv_prob][-1]])
            axes.step(steps, shares, where="post", color=color, linewidth=width, zorder=3 if own else 1)
            censored = np.unique(curve.time[curve.status == 0])
            if own and len(censored):
                still = shares[np.searchsorted(steps, censored, side="right") - 1]
                axes.plot(
                    censored, still, "+", color="black", markersize=10, markeredgewidth=1.5, zorder=4, clip_on=False
                )
        axes.set(xlim=(0, budget), ylim=(-0.03, 1.05))
        axes.set_xticks([0, budget / 2, budget], ["0", f"{budget / 2:,.0f}", f"{budget:,}"])
    panels[0].set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    figure.supxlabel("Step", fontsize=11)
    figure.supylabel("Runs not yet converged", fontsize=11)
    others = Line2D([], [], color="#dddddd", linewidth=0.8, label="the other cells")
    ended = Line2D([], [], marker="+", color="black", linestyle="none", markersize=10, label="ended, not converged")
    explain(figure, [*encodings(cells, linewidth=2.2), others, ended])
    return figure


def spent(runs: pd.DataFrame) -> Figure:
    """What each run spent (`flops`, log scale) and what it reached; filled where it converged."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    for (positional, attention), group in runs.groupby(["positional", "attention"], sort=False):
        color = COLORS[str(positional)]
        axes.scatter(
            group["flops"],
            answered(group),
            s=34,
            marker=MARKS[str(attention)],
            facecolors=[color if done else "none" for done in group["converged"]],
            edgecolors=color,
            clip_on=False,
            zorder=3,
        )
    handles = [
        Line2D([], [], marker=MARKS[str(attention)], color=COLORS[str(positional)], linestyle="none", label=label)
        for (positional, attention), label in (
            (pair, f"{'no' if pair[0] == 'none' else pair[0]} PE, {pair[1]}")
            for pair in runs[["positional", "attention"]].drop_duplicates().itertuples(index=False)
        )
    ]
    handles.append(
        Line2D(
            [], [], marker="o", color="#555555", markerfacecolor="none", linestyle="none", label="hollow: not converged"
        )
    )
    axes.set_xscale("log")
    low, high = runs["flops"].min(), runs["flops"].max()
    axes.set_xlim(low / 1.5, high * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
    axes.xaxis.set_major_formatter(EngFormatter(unit="FLOP", places=0))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks(SHARE, [f"{tick:.0%}" for tick in SHARE])
    axes.set(xlabel="Spent on training", ylabel="Test exact match at the last step")
    explain(figure, handles)
    return figure
