"""Figures of outcomes: steps to converge, scores, learning curves, and scores by position or stratum."""

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
from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.params import Ablation
from pipeline.reporting import style, survival
from pipeline.reporting.experiment.tables import exact_match_scores
from pipeline.reporting.intervals import exact_share_interval, mean_with_interval
from pipeline.reporting.wording import percent


def draw_steps_to_converge(runs: pd.DataFrame, ablations: Sequence[Ablation]) -> Figure:
    """Draw the steps to converge of every run, and the share of each ablation's runs that converged.

    Args:
        runs: a row per (ablation, seed), with the column `still_rising`.
    """
    figure, (steps_axes, share_axes), rows = _create_rows_by_ablation(ablations, width_ratios=(3, 1))
    budget = max(ablation.training.steps for ablation in ablations)
    for row, ablation in rows:
        ablation_runs = runs[runs["ablation"] == ablation.name]
        _draw_steps_of_ablation(steps_axes, ablation_runs, ablation, row)
        _draw_converged_share(share_axes, ablation_runs, row)
        if ablation.training.steps < budget:
            note = f"of at most {ablation.training.steps:,}"
            steps_axes.text(ablation.training.steps + 0.03 * budget, row, note, va="center", color=style.DARK_GREY)
    thresholds = " or ".join(sorted({percent(ablation.training.converged_at) for ablation in ablations}))
    steps_axes.set_title(
        f"When is the task solved ({thresholds} of unseen problems right)? A mark is a run", fontsize=12, pad=10
    )
    steps_axes.set(xlim=(0, 1.04 * budget), xlabel="Training steps")
    steps_axes.set_xticks([0, budget / 2, budget], ["0", f"{budget / 2:,.0f}", f"{budget:,}"])
    share_axes.set(xlim=(-0.06, 1.62), xlabel="Runs that solved it")
    share_axes.set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
    dot: dict[str, Any] = {"linestyle": "none", "markersize": 6, "color": style.DARK_GREY}
    handles = [
        *style.encoding_legend_handles(ablations, marker="o", linestyle="none", markersize=6),
        *style.full_attention_legend_handles(
            ablations, marker="s", markerfacecolor="white", linestyle="none", markersize=6
        ),
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


def draw_steps_by_layers(table: pd.DataFrame, kinds: Mapping[str, Sequence[Ablation]]) -> Figure:
    """Draw the mean steps to converge by the number of layers: a line per kind of ablation.

    Args:
        table: `ablations.csv`, with the columns `restricted_steps`, `restricted_steps_low`, `restricted_steps_high`.
        kinds: description of a kind -> ablations of that kind, by increasing number of layers.
    """
    figure = Figure(figsize=(style.FIGURE_WIDTH, 4.4), layout="constrained")
    axes = figure.subplots()
    outcomes = table.set_index("ablation")
    shifts = np.linspace(-0.15, 0.15, len(kinds))  # so that intervals do not hide each other
    for shift, (words, ablations) in zip(shifts, kinds.items(), strict=True):
        is_intact, color = switches.is_intact(ablations[0]), style.encoding_color(ablations[0])
        rows = outcomes.loc[[ablation.name for ablation in ablations]]
        layers = np.array([ablation.model.layers for ablation in ablations]) + shift
        mean, low, high = (rows[f"restricted_steps{end}"].to_numpy(float) for end in ("", "_low", "_high"))
        axes.errorbar(
            layers, mean, yerr=(mean - low, high - mean), color=color, marker="o" if is_intact else "D", capsize=3,
            linestyle="-" if is_intact else "--", markerfacecolor=color if is_intact else "white", label=words,
        )  # fmt: skip
        for x, y, k, n in zip(layers, mean, rows["converged"], rows["runs"], strict=True):
            if k < n:
                axes.annotate(f"{k}/{n}", (x, y), (6, 4), textcoords="offset points", fontsize=11, color=color)
    shown = [ablation for ablations in kinds.values() for ablation in ablations]
    axes.set_xticks(sorted({ablation.model.layers for ablation in shown}))
    axes.set_ylim(0, 1.08 * max(ablation.training.steps for ablation in shown))
    axes.set(xlabel="Layers", ylabel="Training steps until it is solved")
    style.add_legend(figure, axes.get_legend_handles_labels()[0], columns=2)
    return figure


def draw_exact_match(runs: pd.DataFrame, ablations: Sequence[Ablation], ceiling: float | None) -> Figure:
    """Draw the test exact match of every run at its last step.

    Args:
        runs: a row per (ablation, seed).
        ceiling: the order-blind ceiling, drawn as a dashed line; None if unknown.
    """
    figure, (scores,), rows = _create_rows_by_ablation(ablations)
    for row, ablation in rows:
        values = exact_match_scores(runs[runs["ablation"] == ablation.name])
        _draw_runs(scores, values, ablation, row)
        scores.vlines(values.median(), row - 0.38, row + 0.38, color="black", linewidth=2, zorder=4, clip_on=False)
    if ceiling is not None:
        scores.axvline(ceiling, color="black", linestyle=(0, (4, 3)), linewidth=1.3, zorder=1)
    scores.set(xlim=(-0.02, 1.02), xlabel="Test exact match at the last step")
    scores.set_xticks(style.SHARE_TICKS, style.SHARE_LABELS)
    dot: dict[str, Any] = {"linestyle": "none", "markersize": 6}
    handles = [
        *style.encoding_legend_handles(ablations, marker="o", **dot),
        *style.full_attention_legend_handles(ablations, marker="s", markerfacecolor="white", **dot),
        Line2D([], [], marker="|", color="black", markersize=11, markeredgewidth=2, linestyle="none", label="median"),
    ]
    if ceiling is not None:
        label = f"order-blind ceiling ({percent(ceiling)})"
        handles.append(Line2D([], [], color="black", linestyle=(0, (4, 3)), linewidth=1.3, label=label))
    style.add_legend(figure, handles, columns=3)
    return figure


def draw_bits(runs: pd.DataFrame, ablations: Sequence[Ablation]) -> Figure:
    """Draw the test bits per token of every run, and the mean of each ablation's runs.

    Args:
        runs: a row per (ablation, seed).
    """
    figure, (scores,), rows = _create_rows_by_ablation(ablations)
    for row, ablation in rows:
        values = runs.loc[runs["ablation"] == ablation.name, "test_bits"].dropna()
        _draw_runs(scores, values, ablation, row)
        mean, low, high = mean_with_interval(values)
        scores.vlines(mean, row - 0.38, row + 0.38, color="black", linewidth=2, zorder=4, clip_on=False)
        scores.hlines(row, low, high, color="black", linewidth=1.2, zorder=4)
    scores.set_title("How well is the next token predicted? A mark is a run; less is better", fontsize=12, pad=10)
    low, high = scores.get_xlim()
    scores.set(xlim=(low, high), xlabel="Test bits per token")
    scores.set_xticks([tick for tick in scores.get_xticks() if low <= tick <= high])
    dot: dict[str, Any] = {"linestyle": "none", "markersize": 6}
    handles = [
        *style.encoding_legend_handles(ablations, marker="o", **dot),
        *style.full_attention_legend_handles(ablations, marker="s", markerfacecolor="white", **dot),
        Line2D([], [], marker="|", color="black", markersize=11, markeredgewidth=2, label="mean, 95% interval"),
    ]
    style.add_legend(figure, handles, columns=3)
    return figure


def _create_rows_by_ablation(
    ablations: Sequence[Ablation], width_ratios: Sequence[float] = (1,)
) -> tuple[Figure, Sequence[Axes], list[tuple[int, Ablation]]]:
    """Create a figure with a row per ablation below the name of its group; return it, its panels, and these rows."""
    rows: list[str | Ablation] = []
    for group, group_ablations in switches.group_ablations(ablations):
        rows += [group, *group_ablations]
    figure = Figure(figsize=(style.FIGURE_WIDTH, 1.75 + 0.31 * len(rows)), layout=ConstrainedLayoutEngine(wspace=0.05))
    panels = figure.subplots(1, len(width_ratios), sharey=True, width_ratios=width_ratios, squeeze=False)[0]
    for axes in panels:
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        for index, row in enumerate(rows):
            if not isinstance(row, str):
                axes.axhline(index, color=style.LIGHT_GREY, linewidth=0.8, zorder=0)
    names = [row if isinstance(row, str) else row.name for row in rows]
    panels[0].set_yticks(range(len(rows)), [textwrap.shorten(name, 60) for name in names])
    for label, row in zip(panels[0].get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if isinstance(row, str) else "normal")
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure, panels, [(index, row) for index, row in enumerate(rows) if not isinstance(row, str)]


def _spread_run_heights(run_count: int, row: int) -> np.ndarray:
    """Return the vertical coordinates of the marks of `run_count` runs, spread over the row of an ablation."""
    return row + (np.linspace(-0.26, 0.26, run_count) if run_count > 1 else np.zeros(1))


def _draw_runs(
    axes: Axes, values: "pd.Series[float]", ablation: Ablation, row: int, *, markers: Sequence[str] | None = None
) -> None:
    """Draw a mark at the value of each run in the ablation's row; `markers` are per run, by default the ablation's."""
    many, color = len(values) > 10, style.encoding_color(ablation)
    markers = markers or [style.attention_marker(ablation)] * len(values)
    for value, height, marker in zip(values, _spread_run_heights(len(values), row), markers, strict=True):
        axes.scatter(
            value,
            height,
            s=12 if many else 24,
            marker=marker,
            facecolors=color if ablation.model.attention == "causal" or marker == "x" else "white",
            edgecolors=color if marker != "x" else None,
            linewidths=1.3,
            alpha=0.5 if many else 1.0,
            zorder=3,
            clip_on=False,
        )


def _draw_steps_of_ablation(axes: Axes, runs: pd.DataFrame, ablation: Ablation, row: int) -> None:
    """Draw the steps to converge of an ablation's runs, marks for those that did not converge, and the mean."""
    steps_taken = survival.restricted_steps(runs, ablation.training.steps)
    ended = {(1, 0): style.attention_marker(ablation), (0, 1): "^", (0, 0): "x"}
    is_blind = is_order_blind(ablation.model)  # such a run rises to its ceiling, no further
    rising = runs["still_rising"] * (not is_blind)
    markers = [ended[key] for key in zip(runs["converged"], rising, strict=True)]
    _draw_runs(axes, steps_taken, ablation, row, markers=markers)
    if not runs["converged"].any():
        return  # the mean is the budget
    mean, low, high = mean_with_interval(steps_taken)
    axes.vlines(mean, row - 0.38, row + 0.38, color="black", linewidth=2, zorder=4, clip_on=False)
    axes.hlines(row, low, min(high, ablation.training.steps), color="black", linewidth=1.2, zorder=4)


def _draw_converged_share(axes: Axes, runs: pd.DataFrame, row: int) -> None:
    """Draw the share of an ablation's runs that converged, with its exact interval, and write it as `k/n`."""
    k, n = int(runs["converged"].sum()), len(runs)
    axes.hlines(row, *exact_share_interval(k, n), color=style.DARK_GREY, linewidth=1.5, zorder=2)
    axes.plot(k / n, row, "D", color="#222222", markersize=5, zorder=3, clip_on=False)
    axes.text(1.6, row, f"{k}/{n}", ha="right", va="center")


def draw_learning_curves(
    history: pd.DataFrame, ablations: Sequence[Ablation], score_column: str, score_words: str
) -> Figure:
    """Draw learning curves in a panel per ablation: the validation score of each run over its training steps.

    Args:
        history: `ablation, seed, step, ...`, a row per evaluation.
        score_column: column of `history` with the score.
        score_words: the score in words, for the label of the axis.
    """
    is_share = score_column == "validation_exact_match"
    figure, panels = style.create_panels(ablations, 1.9, max_columns=3)
    last = max(1, int(history.loc[history["ablation"].isin([ablation.name for ablation in ablations]), "step"].max()))
    for axes, ablation in zip(panels, ablations, strict=True):
        curves = history[history["ablation"] == ablation.name]
        seeds = curves["seed"].nunique()
        for _, curve in curves.groupby("seed", sort=False):
            axes.plot(
                curve["step"],
                curve[score_column],
                color=style.encoding_color(ablation),
                linestyle="-" if ablation.model.attention == "causal" else "--",
                linewidth=1.6 if seeds <= 10 else 0.8,
                alpha=max(0.15, min(0.85, 4 / seeds)),
            )
            end = curve.iloc[-1]
            marker, color = style.attention_marker(ablation), style.encoding_color(ablation)
            axes.plot(end["step"], end[score_column], marker, color=color, markersize=4, clip_on=False)
        if is_share:
            axes.axhline(1, color="#dddddd", linewidth=0.8, zorder=0)
        axes.set_xlim(0, last)
        axes.set_xticks([0, last / 2, last], ["0", f"{last / 2:,.0f}", f"{last:,}"])
    if is_share:
        panels[0].set_ylim(-0.03, 1.03)
        panels[0].set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    figure.supxlabel("Step", fontsize=11)
    figure.supylabel(f"Validation {score_words}", fontsize=11)
    handles = [
        *style.encoding_legend_handles(ablations, linewidth=1.6),
        *style.full_attention_legend_handles(ablations, linestyle="--", linewidth=1.6),
        Line2D([], [], color=style.DARK_GREY, linestyle="none", marker="o", markersize=4, label="last evaluation"),
    ]
    style.add_legend(figure, handles)
    return figure


def draw_unconverged_share(runs: pd.DataFrame, ablations: Sequence[Ablation]) -> Figure:
    """Draw the share of runs not yet converged by step: a panel per ablation, with the other ablations in grey."""
    curves = {
        ablation.name: survival.unconverged_share_by_step(runs[runs["ablation"] == ablation.name])
        for ablation in ablations
    }
    budget = int(runs["steps"].max())
    figure, panels = style.create_panels(ablations, 2.0)
    for axes, ablation in zip(panels, ablations, strict=True):
        for name, curve in curves.items():
            is_own = name == ablation.name
            color, width = (style.encoding_color(ablation), 2.2) if is_own else ("#dddddd", 0.8)
            axes.step(
                curve["step"], curve["share"], where="post", color=color, linewidth=width, zorder=3 if is_own else 1
            )
            if not is_own:
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
    handles: list[Any] = [*style.encoding_legend_handles(ablations, linewidth=2.2), others]
    if any(curve["low"].iloc[1:].notna().any() for curve in curves.values()):
        handles.append(Patch(color="#dddddd", label="95% interval"))
    ended = Line2D([], [], marker="+", color="black", linestyle="none", markersize=10, label="ended, not converged")
    style.add_legend(figure, [*handles, ended])
    return figure


def draw_heat_map(
    table: pd.DataFrame, ablations: Sequence[Ablation], columns: Sequence[str], axis_label: str
) -> Figure:
    """Draw mean shares as a table of coloured cells, with a row per ablation and a column per key.

    Args:
        table: `ablation, key, mean`, where `mean` is a share in [0, 1].
        columns: labels of the keys, in increasing order of the keys.
        axis_label: label of the horizontal axis.
    """
    names = [ablation.name for ablation in ablations]
    shares = table.pivot(index="ablation", columns="key", values="mean").reindex(names).to_numpy(float)
    figure = Figure(figsize=(style.FIGURE_WIDTH, 1.3 + 0.33 * len(names)), layout="constrained")
    axes = figure.subplots()
    style.draw_tiles(
        axes, shares, lambda row, column: percent(shares[row, column]), column_names=columns, row_names=names
    )
    axes.set_xlabel(axis_label, labelpad=8)
    axes.xaxis.set_label_position("top")
    return figure
