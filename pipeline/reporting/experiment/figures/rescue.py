"""Figure of substitutes: how much of the cost of a missing residual connection does each give back?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline import switches
from pipeline.params.model import SubstituteName
from pipeline.reporting import style
from pipeline.reporting.experiment.rescue import SubstituteTriple

AXIS_MARGIN = 0.15
AXIS_LIMITS = (-5.0, 2.0)
"""Smallest and largest rescue on the axis of the figure; wider intervals are cut off."""
SUBSTITUTE_WORDS: dict[SubstituteName, str] = {
    "backward": "the gradient's path alone",
    "forward": "the example's own states",
    "other-row": "another example's, same position",
    "elsewhere": "another example's, other positions",
    "slot-mean": "all examples' mean, same position",
    "all-mean": "all examples' mean, all positions",
    "noise": "noise of the same size",
    "fade": "the connection, fading away",
}
"""Substitute of a residual connection -> label of what the layer receives; others are labelled by their name."""


def _substitute_label(substitute: SubstituteName) -> str:
    return f"{SUBSTITUTE_WORDS[substitute]}\n({substitute})" if substitute in SUBSTITUTE_WORDS else substitute


def draw_rescue(table: pd.DataFrame, triples: Sequence[SubstituteTriple]) -> Figure:
    """Draw the rescue by each substitute: a panel per residual-free ablation, a row per substitute.

    Args:
        table: `ablation, rescue, rescue_low, rescue_high`, a row per ablation with a substitute.
        triples: the ablations of `table` with their counterparts.
    """
    sites = list(dict.fromkeys(triple.residual_free.name for triple in triples))
    by_site = [[triple for triple in triples if triple.residual_free.name == site] for site in sites]
    rows = max(map(len, by_site))
    figure = Figure(figsize=(style.FIGURE_WIDTH, 1.9 + 0.46 * rows), layout="constrained")
    panels = figure.subplots(1, len(sites), squeeze=False, sharex=True)[0]
    visible = table.set_index("ablation")[["rescue", "rescue_low", "rescue_high"]].clip(*AXIS_LIMITS)
    values = visible.to_numpy(float)
    values = values[~np.isnan(values)]
    limits = min([0.0, *values]) - AXIS_MARGIN, max([1.0, *values]) + AXIS_MARGIN
    labelled: list[SubstituteName] = []
    for axes, site_triples in zip(panels, by_site, strict=True):
        for row, triple in enumerate(site_triples):
            value, low, high = visible.loc[triple.substituted.name].to_numpy(float)
            if not np.isnan(low):
                axes.hlines(row, low, high, color=style.DARK_GREY, linewidth=1.5, zorder=2)
            axes.plot(value, row, "D", color="#222222", markersize=6, zorder=3)
        for x, line_style in ((0.0, ":"), (1.0, "--")):
            axes.axvline(x, color="black", linestyle=line_style, linewidth=1.1, zorder=1)
        substitutes = [triple.substituted.model.residual_substitute for triple in site_triples]
        labels = [_substitute_label(name) for name in substitutes] if substitutes != labelled else []
        axes.set_yticks(range(len(labels)), labels)
        labelled = substitutes
        axes.set_ylim(len(site_triples) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_title(
            switches.missing_residuals_in_words(site_triples[0].residual_free.model.residual_free), loc="left"
        )
        axes.set_xlim(*limits)
    figure.supxlabel("Rescue: share of what the missing connection costs that is given back", fontsize=11)
    handles = [
        Line2D([], [], color="black", linestyle=":", linewidth=1.1, label="as without the connection"),
        Line2D([], [], color="black", linestyle="--", linewidth=1.1, label="as with it"),
        Line2D([], [], color=style.DARK_GREY, marker="D", markersize=6, linewidth=1.5, label="mean, 95% interval"),
    ]
    style.add_legend(figure, handles)
    return figure
