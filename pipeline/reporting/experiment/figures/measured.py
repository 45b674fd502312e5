"""Figures of measurements: a line or a dot per run, after training in colour, before training in grey."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.params import Ablation
from pipeline.reporting import style
from pipeline.reporting.experiment.task_results import rows_after_training, rows_before_training


def run_legend_handles(
    ablations: Sequence[Ablation], *, dashed_label: str = "", dotted_label: str = "", **line_style: Any
) -> list[Line2D]:
    """Return legend handles for the colours of the positional encodings, and for grey (runs before training).

    `dashed_label` and `dotted_label` label a dashed and a dotted line; empty if the figure has none. `line_style` is
    given to matplotlib's `Line2D`.
    """
    handles = style.encoding_legend_handles(ablations, **line_style)
    handles.append(Line2D([], [], color=style.GREY, label="before training", **line_style))
    if dashed_label:
        handles.append(Line2D([], [], color=style.DARK_GREY, linestyle="--", linewidth=1.3, label=dashed_label))
    if dotted_label:
        handles.append(Line2D([], [], color="black", linestyle=":", linewidth=1.3, label=dotted_label))
    return handles


def draw_lines_by_ablation(
    table: pd.DataFrame,
    ablations: Sequence[Ablation],
    value_column: str,
    *,
    axis_labels: tuple[str, str],
    x_column: str = "depth",
    reference: tuple[float, str] | None = None,
    dashed: tuple[pd.DataFrame, str] | None = None,
) -> Figure:
    """Draw a panel per ablation: the mean over its runs as a line, their range as a band.

    Args:
        table: a row per run, time of measurement and value of `x_column`.
        value_column: column on the vertical axis.
        axis_labels: labels of the horizontal and the vertical axis.
        x_column: column on the horizontal axis.
        reference: value expected if there is nothing to find, drawn as a dotted line, and the label of that line.
        dashed: second table with the columns of `table`, drawn as dashed lines, and the label of these lines.
    """
    figure, panels = style.create_panels(ablations, 2.0)
    for axes, ablation in zip(panels, ablations, strict=True):
        for rows, line_format in ((table, "o-"), *([(dashed[0], "--")] if dashed else [])):
            runs = rows[rows["ablation"] == ablation.name]
            for moment, color in (
                (rows_before_training(runs), style.GREY),
                (rows_after_training(runs), style.encoding_color(ablation)),
            ):
                of_seeds = moment.groupby(x_column)[value_column].agg(["mean", "min", "max"]).astype(float)
                axes.plot(of_seeds.index, of_seeds["mean"], line_format, color=color, linewidth=1.5, markersize=3)
                if line_format == "o-":
                    band: dict[str, Any] = {"color": color, "alpha": 0.2, "linewidth": 0}
                    axes.fill_between(of_seeds.index, of_seeds["min"], of_seeds["max"], **band)
        positions = table.loc[table["ablation"] == ablation.name, x_column]
        if len(positions):
            axes.set_xlim(positions.min() - 0.2, positions.max() + 0.2)
        if reference:
            axes.axhline(reference[0], color="black", linestyle=":", linewidth=1.3)
    figure.supxlabel(axis_labels[0], fontsize=11)
    figure.supylabel(axis_labels[1], fontsize=11)
    words = {"dashed_label": dashed[1] if dashed else "", "dotted_label": reference[1] if reference else ""}
    style.add_legend(figure, run_legend_handles(ablations, marker="o", markersize=3, linewidth=1.3, **words))
    return figure


def draw_lines_along_training(
    table: pd.DataFrame, ablations: Sequence[Ablation], value_column: str, *, axis_label: str, log_scale: bool = False
) -> Figure:
    """Draw a measured value over the training steps: a panel per ablation, a line per run.

    `log_scale` makes the vertical axis logarithmic.
    """
    figure, panels = style.create_panels(ablations, 2.0)
    for axes, ablation in zip(panels, ablations, strict=True):
        for _, line in table[table["ablation"] == ablation.name].groupby("seed", sort=False):
            ordered = line.sort_values("step")
            axes.plot(
                ordered["step"] + 1,
                ordered[value_column],
                "-o",
                color=style.encoding_color(ablation),
                markersize=3,
                linewidth=1.3,
            )
        axes.set_xscale("log")
        if log_scale:
            axes.set_yscale("log")
    figure.supxlabel("Step + 1", fontsize=11)
    figure.supylabel(axis_label, fontsize=11)
    style.add_legend(figure, style.encoding_legend_handles(ablations, marker="o", markersize=3, linewidth=1.3))
    return figure


def draw_dots_by_ablation(
    table: pd.DataFrame,
    ablations: Sequence[Ablation],
    value_column: str,
    *,
    axis_label: str,
    log_scale: bool = False,
    reference: tuple[float, str] | None = None,
) -> Figure:
    """Draw a row per ablation: one dot per run, after training in colour and before training in grey.

    Args:
        log_scale: make the horizontal axis logarithmic; a value of 0 is drawn at its left edge.
        reference: value to mark with a dotted line, and the label of that line.
    """
    figure = Figure(figsize=(style.FIGURE_WIDTH, 1.6 + 0.31 * len(ablations)), layout="constrained")
    axes = figure.subplots()
    floor = 1e-18
    for row, ablation in enumerate(ablations):
        runs = table[table["ablation"] == ablation.name]
        for moment, color, shift in (
            (rows_before_training(runs), style.GREY, 0.15),
            (rows_after_training(runs), style.encoding_color(ablation), -0.15),
        ):
            shown = moment[value_column].clip(lower=floor) if log_scale else moment[value_column]
            axes.plot(shown, [row + shift] * len(shown), "o", color=color, markersize=5, alpha=0.8, clip_on=False)
    if log_scale:
        axes.set(xscale="log", xlim=(floor, None))
    if reference:
        axes.axvline(reference[0], color="black", linestyle=":", linewidth=1.3)
    style.label_rows(ablations, axes)
    axes.set_xlabel(axis_label)
    axes.grid(axis="y", color=style.LIGHT_GREY)
    dotted = reference[1] if reference else ""
    style.add_legend(
        figure, run_legend_handles(ablations, dotted_label=dotted, marker="o", markersize=5, linestyle="none")
    )
    return figure


def draw_token_probe(table: pd.DataFrame, ablations: Sequence[Ablation]) -> Figure:
    """Draw the token probe, a panel per ablation: accuracy of reading each token (column) from each position (row)."""
    figure, panels = style.create_panels(ablations, 2.6, share_y_axis=False)
    image = None
    for axes, ablation in zip(panels, ablations, strict=True):
        trained = rows_after_training(
            table[(table["ablation"] == ablation.name) & (table["depth"] == ablation.model.layers)]
        )
        if trained.empty:
            axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes)
            axes.set(xticks=[], yticks=[])
            continue
        values = trained.pivot_table(index="position", columns="token_position", values="accuracy")
        image = axes.imshow(values.to_numpy(), cmap="Blues", vmin=0, vmax=1)
        ticks = np.arange(0, len(values), 4)
        axes.set(xticks=ticks, yticks=ticks)
    if image is not None:
        figure.colorbar(image, ax=panels, shrink=min(1.0, 3 / figure.get_figheight()), label="Probe accuracy")
    figure.supxlabel("Token that is read, by its position", fontsize=11)
    figure.supylabel("Column that is read from, by its position", fontsize=11)
    return figure
