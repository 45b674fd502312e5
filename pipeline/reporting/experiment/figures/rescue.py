"""What stands in for a missing residual connection, and how much of its worth that gives back."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline import switches
from pipeline.params.model import SubstituteName
from pipeline.reporting import style
from pipeline.reporting.experiment.rescue import SubstituteTriple

MARGIN = 0.15
SHOWN = (-5.0, 2.0)
"""The most of the axis that is drawn: an interval may be much wider."""
IN_WORDS: dict[SubstituteName, str] = {
    "backward": "the gradient's path alone",
    "forward": "the row's own states",
    "other-row": "another row's, same position",
    "elsewhere": "another row's, other positions",
    "slot-mean": "all rows' mean, same position",
    "all-mean": "all rows' mean, all positions",
    "noise": "noise of the same size",
    "fade": "the connection, fading away",
}
"""Substitute -> what it gives the layer. One without an entry is shown by its name alone."""


def _label(substitute: SubstituteName) -> str:
    return f"{IN_WORDS[substitute]}\n({substitute})" if substitute in IN_WORDS else substitute


def rescue(table: pd.DataFrame, trios: Sequence[SubstituteTriple]) -> Figure:
    """A panel per plain ablation, a row per substitute.

    Args:
        table: `ablation, rescue, rescue_low, rescue_high`, a row per ablation with a substitute.
    """
    sites = list(dict.fromkeys(one.residual_free.name for one in trios))
    rows = max(sum(one.residual_free.name == site for one in trios) for site in sites)
    figure = Figure(figsize=(style.WIDTH, 1.9 + 0.46 * rows), layout="constrained")
    panels = figure.subplots(1, len(sites), squeeze=False, sharex=True)[0]
    found = table.set_index("ablation")
    drawn = found[["rescue", "rescue_low", "rescue_high"]].clip(*SHOWN)
    limits = min(drawn.min().min(), 0.0) - MARGIN, max(drawn.max().max(), 1.0) + MARGIN
    before: list[SubstituteName] = []
    for axes, site in zip(panels, sites, strict=True):
        own = [one for one in trios if one.residual_free.name == site]
        for place, one in enumerate(own):
            value, low, high = drawn.loc[one.substituted.name].to_numpy(float)
            if low == low:  # there is an interval
                axes.hlines(place, low, high, color=style.DARK, linewidth=1.5, zorder=2)
            axes.plot(value, place, "D", color="#222222", markersize=6, zorder=3)
        for at, name in ((0.0, ":"), (1.0, "--")):
            axes.axvline(at, color="black", linestyle=name, linewidth=1.1, zorder=1)
        instead = [one.substituted.model.residual_substitute for one in own]
        labels = [_label(name) for name in instead] if instead != before else []
        axes.set_yticks(range(len(labels)), labels)
        before = instead
        axes.set_ylim(len(own) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_title(switches.missing_residuals_in_words(own[0].residual_free.model.residual_free), loc="left")
        axes.set_xlim(*limits)
    figure.supxlabel("Rescue: share of what the missing connection costs that is given back", fontsize=11)
    handles = [
        Line2D([], [], color="black", linestyle=":", linewidth=1.1, label="as without the connection"),
        Line2D([], [], color="black", linestyle="--", linewidth=1.1, label="as with it"),
        Line2D([], [], color=style.DARK, marker="D", markersize=6, linewidth=1.5, label="mean, 95% interval"),
    ]
    style.add_legend(figure, handles)
    return figure
