"""What the runs came to: exact match, learning curves, time to converge, cost, and scores by place or stratum."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pipeline import switches
from pipeline.measurement.order_blind import is_order_blind
from pipeline.params import Ablation
from pipeline.reporting import style, survival
from pipeline.reporting.experiment.tables import exact_match_scores
from pipeline.reporting.intervals import exact_interval, mean_with_interval
from pipeline.reporting.wording import percent


def steps(runs: pd.DataFrame, ablations: Sequence[Ablation]) -> Figure:
    """The main figure: when every run converged, or that it did not within its budget, and how many of an ablation did.

    Args:
        runs: a row per (ablation, seed), with the column `still_rising`.
    """
    figure, (taken, converged), rows = _by_ablation(ablations, width_ratios=(3, 1))
    budget = max(ablation.training.steps for ablation in ablations)
    for place, ablation in rows:
        own = runs[runs["ablation"] == ablation.name]
        _times(taken, own, ablation, place)
        _converged(converged, own, place)
        if ablation.training.steps < budget:
            said = f"of at most {ablation.training.steps:,}"
            taken.text(ablation.training.steps + 0.03 * budget, place, said, va="center", color=style.DARK)
    at = " or ".join(sorted({percent(ablation.training.converged_at) for ablation in ablations}))
    taken.set_title(f"When is the task solved ({at} of unseen problems right)? A mark is a run", fontsize=12, pad=10)
    taken.set(xlim=(0, 1.04 * budget), xlabel="Training steps")
    taken.set_xticks([0, budget / 2, budget], ["0", f"{budget / 2:,.0f}", f"{budget:,}"])
    converged.set(xlim=(-0.06, 1.62), xlabel="Runs that solved it")
    converged.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
    dot: dict[str, Any] = {"linestyle": "none", "markersize": 6, "color": style.DARK}
    handles = [
        *style.encoding_handles(ablations, marker="o", linestyle="none", markersize=6),
        *style.full_attention_handles(ablations, marker="s", markerfacecolor="white", linestyle="none", markersize=6),
        Line2D([], [], marker="^", label="not solved, still rising", **dot),
        Line2D([], [], marker="x", label="not solved, order-blind or no longer rising", **dot),
        Line2D(
            [],
            [],
            marker="|",
            color="black",
            markersize=11,
            markeredgewidth=2,
            linestyle="-",
            label="mean up to the budget, 95% interval",
        ),
    ]
    style.add_legend(figure, handles, columns=3)
    return figure


def by_layers(table: pd.DataFrame, kinds: Mapping[str, Sequence[Ablation]]) -> Figure:
    """How many steps the task takes, by the number of layers: a line per kind of ablation.

    Args:
        table: `ablation, runs, converged, restricted_steps`, and the limits of that, a row per ablation.
        kinds: what they are, in words -> their ablations, the shallowest first.
    """
    figure = Figure(figsize=(style.WIDTH, 4.4), layout="constrained")
    axes = figure.subplots()
    found = table.set_index("ablation")
    beside = np.linspace(-0.15, 0.15, len(kinds))  # so that intervals do not hide each other
    for shift, (words, ablations) in zip(beside, kinds.items(), strict=True):
        whole, color = switches.is_intact(ablations[0]), style.color(ablations[0])
        own = found.loc[[ablation.name for ablation in ablations]]
        layers = np.array([ablation.model.layers for ablation in ablations]) + shift
        mean, low, high = (own[f"restricted_steps{end}"].to_numpy(float) for end in ("", "_low", "_high"))
        axes.errorbar(
            layers, mean, yerr=(mean - low, high - mean), color=color, marker="o" if whole else "D", capsize=3,
            linestyle="-" if whole else "--", markerfacecolor=color if whole else "white", label=words,
        )  # fmt: skip
        for place, at, k, n in zip(layers, mean, own["converged"], own["runs"], strict=True):
            if k < n:
                axes.annotate(f"{k}/{n}", (place, at), (6, 4), textcoords="offset points", fontsize=11, color=color)
    every = [ablation for ablations in kinds.values() for ablation in ablations]
    axes.set_xticks(sorted({ablation.model.layers for ablation in every}))
    axes.set_ylim(0, 1.08 * max(ablation.training.steps for ablation in every))
    axes.set(xlabel="Layers", ylabel="Training steps until it is solved")
    style.add_legend(figure, axes.get_legend_handles_labels()[0], columns=2)
    return figure


def exact_match(runs: pd.DataFrame, ablations: Sequence[Ablation], ceiling: float | None) -> Figure:
    """Every run's test exact match at its last step.

    Args:
        runs: a row per (ablation, seed).
        ceiling: the order-blind ceiling, drawn as a dashed line; None where it is not known.
    """
    figure, (scores,), rows = _by_ablation(ablations)
    for place, ablation in rows:
        own = exact_match_scores(runs[runs["ablation"] == ablation.name])
        _dots(scores, own, ablation, place)
        scores.vlines(own.median(), place - 0.38, place + 0.38, color="black", linewidth=2, zorder=4, clip_on=False)
    if ceiling is not None:
        scores.axvline(ceiling, color="black", linestyle=(0, (4, 3)), linewidth=1.3, zorder=1)
    scores.set(xlim=(-0.02, 1.02), xlabel="Test exact match at the last step")
    scores.set_xticks(style.SHARE_TICKS, style.SHARE_LABELS)
    dot: dict[str, Any] = {"linestyle": "none", "markersize": 6}
    handles = [
        *style.encoding_handles(ablations, marker="o", **dot),
        *style.full_attention_handles(ablations, marker="s", markerfacecolor="white", **dot),
        Line2D([], [], marker="|", color="black", markersize=11, markeredgewidth=2, linestyle="none", label="median"),
    ]
    if ceiling is not None:
        label = f"order-blind ceiling ({percent(ceiling)})"
        handles.append(Line2D([], [], color="black", linestyle=(0, (4, 3)), linewidth=1.3, label=label))
    style.add_legend(figure, handles, columns=3)
    return figure


def bits(runs: pd.DataFrame, ablations: Sequence[Ablation]) -> Figure:
    """Test bits per token of every run, and their mean by ablation.

    Args:
        runs: a row per (ablation, seed).
    """
    figure, (scores,), rows = _by_ablation(ablations)
    for place, ablation in rows:
        own = runs.loc[runs["ablation"] == ablation.name, "test_bits"].dropna()
        _dots(scores, own, ablation, place)
        mean, low, high = mean_with_interval(own)
        scores.vlines(mean, place - 0.38, place + 0.38, color="black", linewidth=2, zorder=4, clip_on=False)
        scores.hlines(place, low, high, color="black", linewidth=1.2, zorder=4)
    scores.set_title("How well is the next token foreseen? A mark is a run; less is better", fontsize=12, pad=10)
    low, high = scores.get_xlim()
    scores.set(xlim=(low, high), xlabel="Test bits per token")
    scores.set_xticks([tick for tick in scores.get_xticks() if low <= tick <= high])
    dot: dict[str, Any] = {"linestyle": "none", "markersize": 6}
    handles = [
        *style.encoding_handles(ablations, marker="o", **dot),
        *style.full_attention_handles(ablations, marker="s", markerfacecolor="white", **dot),
        Line2D([], [], marker="|", color="black", markersize=11, markeredgewidth=2, label="mean, 95% interval"),
    ]
    style.add_legend(figure, handles, columns=3)
    return figure


def _by_ablation(
    ablations: Sequence[Ablation], width_ratios: Sequence[float] = (1,)
) -> tuple[Figure, Sequence[Axes], list[tuple[int, Ablation]]]:
    """A figure whose rows are the ablations, under the names of their groups; its axes; place and ablation of each."""
    rows: list[str | Ablation] = []
    for group, members in switches.grouped(ablations):
        rows += [group, *members]
    figure = Figure(figsize=(style.WIDTH, 1.75 + 0.31 * len(rows)), layout=ConstrainedLayoutEngine(wspace=0.05))
    every = figure.subplots(1, len(width_ratios), sharey=True, width_ratios=width_ratios, squeeze=False)[0]
    for axes in every:
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        for place, row in enumerate(rows):
            if not isinstance(row, str):
                axes.axhline(place, color=style.LIGHT, linewidth=0.8, zorder=0)
    names = [row if isinstance(row, str) else row.name for row in rows]
    every[0].set_yticks(range(len(rows)), [textwrap.shorten(name, 60) for name in names])
    for label, row in zip(every[0].get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if isinstance(row, str) else "normal")
    every[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure, every, [(place, row) for place, row in enumerate(rows) if not isinstance(row, str)]


def _places(count: int, place: int) -> np.ndarray:
    """Of the runs of an ablation, one above the other."""
    return place + (np.linspace(-0.26, 0.26, count) if count > 1 else np.zeros(1))


def _dots(
    axes: Axes, values: "pd.Series[float]", ablation: Ablation, place: int, *, marks: Sequence[str] | None = None
) -> None:
    """Each run as a mark, its own or the ablation's."""
    many, color = len(values) > 10, style.color(ablation)
    marks = marks or [style.marker(ablation)] * len(values)
    for value, at, mark in zip(values, _places(len(values), place), marks, strict=True):
        axes.scatter(
            value,
            at,
            s=12 if many else 24,
            marker=mark,
            facecolors=color if ablation.model.attention == "causal" or mark == "x" else "white",
            edgecolors=color if mark != "x" else None,
            linewidths=1.3,
            alpha=0.5 if many else 1.0,
            zorder=3,
            clip_on=False,
        )


def _times(axes: Axes, runs: pd.DataFrame, ablation: Ablation, place: int) -> None:
    """When each run converged, how those ended that did not, and their mean up to the budget."""
    taken = survival.restricted_steps(runs, ablation.training.steps)
    ended = {(1, 0): style.marker(ablation), (0, 1): "^", (0, 0): "x"}
    rising = runs["still_rising"] * (not is_order_blind(ablation.model))  # to their ceiling, no further
    marks = [ended[key] for key in zip(runs["converged"], rising, strict=True)]
    _dots(axes, taken, ablation, place, marks=marks)
    if not runs["converged"].any():
        return  # they say all there is
    mean, low, high = mean_with_interval(taken)
    axes.vlines(mean, place - 0.38, place + 0.38, color="black", linewidth=2, zorder=4, clip_on=False)
    axes.hlines(place, low, min(high, ablation.training.steps), color="black", linewidth=1.2, zorder=4)


def _converged(axes: Axes, runs: pd.DataFrame, place: int) -> None:
    """The share of runs that converged with its exact interval, and k/n in figures."""
    k, n = int(runs["converged"].sum()), len(runs)
    axes.hlines(place, *exact_interval(k, n), color=style.DARK, linewidth=1.5, zorder=2)
    axes.plot(k / n, place, "D", color="#222222", markersize=5, zorder=3, clip_on=False)
    axes.text(1.6, place, f"{k}/{n}", ha="right", va="center")


def learning_curves(history: pd.DataFrame, ablations: Sequence[Ablation], score: str, words: str) -> Figure:
    """How well a run does on validation over the steps, a panel per ablation, a line per seed.

    Args:
        history: `ablation, seed, step, ...`, a row per evaluation.
        score: its column; what that is, in `words`.
    """
    share = score == "validation_exact_match"
    figure, panels = style.ablation_panels(ablations, 1.9, across=3)
    last = max(1, int(history.loc[history["ablation"].isin([ablation.name for ablation in ablations]), "step"].max()))
    for axes, ablation in zip(panels, ablations, strict=True):
        curves = history[history["ablation"] == ablation.name]
        seeds = curves["seed"].nunique()
        for _, curve in curves.groupby("seed", sort=False):
            axes.plot(
                curve["step"],
                curve[score],
                color=style.color(ablation),
                linestyle="-" if ablation.model.attention == "causal" else "--",
                linewidth=1.6 if seeds <= 10 else 0.8,
                alpha=max(0.15, min(0.85, 4 / seeds)),
            )
            end = curve.iloc[-1]
            axes.plot(
                end["step"], end[score], style.marker(ablation), color=style.color(ablation), markersize=4,
                clip_on=False,
            )  # fmt: skip
        if share:
            axes.axhline(1, color="#dddddd", linewidth=0.8, zorder=0)
        axes.set_xlim(0, last)
        axes.set_xticks([0, last / 2, last], ["0", f"{last / 2:,.0f}", f"{last:,}"])
    if share:
        panels[0].set_ylim(-0.03, 1.03)
        panels[0].set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    figure.supxlabel("Step", fontsize=11)
    figure.supylabel(f"Validation {words}", fontsize=11)
    handles = [
        *style.encoding_handles(ablations, linewidth=1.6),
        *style.full_attention_handles(ablations, linestyle="--", linewidth=1.6),
        Line2D([], [], color=style.DARK, linestyle="none", marker="o", markersize=4, label="last evaluation"),
    ]
    style.add_legend(figure, handles)
    return figure


def not_yet_converged(runs: pd.DataFrame, ablations: Sequence[Ablation]) -> Figure:
    """Draw a panel per ablation: the share of its runs not yet converged by step, the other ablations in grey."""
    curves = {
        ablation.name: survival.not_yet_converged(runs[runs["ablation"] == ablation.name]) for ablation in ablations
    }
    budget = int(runs["steps"].max())
    figure, panels = style.ablation_panels(ablations, 2.0)
    for axes, ablation in zip(panels, ablations, strict=True):
        for name, curve in curves.items():
            own = name == ablation.name
            color, width = (style.color(ablation), 2.2) if own else ("#dddddd", 0.8)
            axes.step(curve["step"], curve["share"], where="post", color=color, linewidth=width, zorder=3 if own else 1)
            if not own:
                continue
            band: dict[str, Any] = {"step": "post", "color": color, "alpha": 0.18, "linewidth": 0, "zorder": 2}
            axes.fill_between(curve["step"], curve["low"], curve["high"], **band)
            if left := curve["share"].iloc[-1]:
                plus: dict[str, Any] = {"color": "black", "markersize": 10, "markeredgewidth": 1.5, "zorder": 4}
                axes.plot(curve["step"].iloc[-1], left, "+", clip_on=False, **plus)
        axes.set(xlim=(0, budget), ylim=(-0.03, 1.05))
        axes.set_xticks([0, budget / 2, budget], ["0", f"{budget / 2:,.0f}", f"{budget:,}"])
    panels[0].set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    figure.supxlabel("Step", fontsize=11)
    figure.supylabel("Runs not yet converged", fontsize=11)
    others = Line2D([], [], color="#dddddd", linewidth=0.8, label="the other ablations")
    handles: list[Any] = [*style.encoding_handles(ablations, linewidth=2.2), others]
    if any(curve["low"].iloc[1:].notna().any() for curve in curves.values()):
        handles.append(Patch(color="#dddddd", label="95% interval"))
    ended = Line2D([], [], marker="+", color="black", linestyle="none", markersize=10, label="ended, not converged")
    style.add_legend(figure, [*handles, ended])
    return figure


def heat_map(table: pd.DataFrame, ablations: Sequence[Ablation], columns: Sequence[str], label: str) -> Figure:
    """`mean` by ablation and `key` as colours with their numbers; `columns`: what to call the keys, in order."""
    names = [ablation.name for ablation in ablations]
    shares = table.pivot(index="ablation", columns="key", values="mean").reindex(names).to_numpy(float)
    figure = Figure(figsize=(style.WIDTH, 1.3 + 0.33 * len(names)), layout="constrained")
    axes = figure.subplots()
    style.draw_tiles(axes, shares, lambda row, column: percent(shares[row, column]), columns=columns, rows=names)
    axes.set_xlabel(label, labelpad=8)
    axes.xaxis.set_label_position("top")
    return figure
