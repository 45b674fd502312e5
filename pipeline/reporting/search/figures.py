"""The figures of a study."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.reporting.figures import WIDTH
from pipeline.reporting.search.answer import best_so_far, evidence, pareto_front, residual_map
from pipeline.reporting.wording import plural

MARKS = "os^DvPX*"
INK = ("#555555", "#D55E00", "#0072B2", "#009E73", "#8E4585", "#7A5C00", "#56B4E9", "#000000")
WORDS = {"residuals_kept": "Residual connections kept", "parameters": "Parameters", "flops": "Training FLOPs"}


def pareto(trials: pd.DataFrame, minimized: str) -> Figure:
    """Share converged against what is minimised, a mark per configuration (its size says how many), and the front."""
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    known = evidence(trials)
    for index, layers in enumerate(sorted(set(known["layers"].astype(int)))):
        rows = known[known["layers"] == layers]
        counts = rows.groupby([minimized, "converged_share"]).size().reset_index(name="count")
        shift = (index - (known["layers"].nunique() - 1) / 2) * 0.06 * (minimized == "residuals_kept")
        axes.scatter(
            counts[minimized].astype(float) + shift,
            counts["converged_share"].astype(float),
            s=40 * counts["count"],
            marker=MARKS[index % len(MARKS)],
            color=INK[index % len(INK)],
            alpha=0.8,
            label=plural(layers, "layer"),
            clip_on=False,
            zorder=3,
        )
    front = pareto_front(trials, minimized).drop_duplicates([minimized, "converged_share"])
    axes.step(front[minimized], front["converged_share"], where="post", color="black", linewidth=1.2, label="front")
    axes.set(xlabel=WORDS[minimized], ylabel="Members converged", ylim=(-0.05, 1.05))
    axes.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    figure.legend(loc="outside upper center", ncols=6, frameon=False, markerscale=0.8)
    return figure


def converged_without(trials: pd.DataFrame) -> Figure:
    """Layer by sublayer: in how many of the configurations without that connection every member converged."""
    table = residual_map(trials)
    figure = Figure(figsize=(WIDTH, 1.4 + 0.5 * max(1, table["layer"].nunique())), layout="constrained")
    axes = figure.subplots()
    share = (table["solved"] / table["lacking"].where(table["lacking"] > 0)).to_numpy(float).reshape(-1, 2)
    axes.imshow(np.ma.masked_invalid(share), cmap=colormaps["Blues"].with_extremes(bad="#eeeeee"), vmin=0, vmax=1.1)
    axes.set_aspect("auto")
    for place, row in enumerate(table.to_dict("records")):
        text = f"{row['solved']} of {row['lacking']}" if row["lacking"] else "not tried"
        dark = row["lacking"] and row["solved"] / row["lacking"] > 0.6
        axes.text(place % 2, place // 2, text, ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks([0, 1], ["attention", "MLP"])
    axes.set_yticks(range(len(share)), [f"layer {layer}" for layer in range(len(share))])
    axes.tick_params(length=0)
    axes.set_xlabel("Without the residual connection of this sublayer")
    return figure


def history(trials: pd.DataFrame, minimized: str) -> Figure:
    """Every configuration in the order it was tried, filled where every member converged, and the best so far."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    known = evidence(trials)
    full = known["converged"] == known["members"]
    for rows, fill, label in ((known[~full], "white", "not all converged"), (known[full], "#0072B2", "all converged")):
        axes.scatter(rows["trial"], rows[minimized], facecolors=fill, edgecolors="#0072B2", label=label, zorder=3)
    best = best_so_far(trials, minimized)
    axes.step(best["trial"], best["best"], where="post", color="#D55E00", linewidth=1.5, label="best so far")
    axes.set(xlabel="Trial", ylabel=WORDS[minimized])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def importances(found: Mapping[str, Mapping[str, float]]) -> Figure:
    """How much each parameter has to do with each objective (PED-ANOVA)."""
    figure = Figure(figsize=(WIDTH, 1.3 + 0.45 * max(1, len(found))), layout="constrained")
    axes = figure.subplots()
    objectives = list(dict.fromkeys(objective for by_objective in found.values() for objective in by_objective))
    for index, objective in enumerate(objectives):
        places = np.arange(len(found)) + (index - (len(objectives) - 1) / 2) * 0.35
        values = [by_objective.get(objective, 0.0) for by_objective in found.values()]
        axes.barh(places, values, height=0.32, color=INK[index + 1], label=objective.replace("_", " "))
    axes.set_yticks(range(len(found)), [name.replace("_", " ") for name in found])
    axes.invert_yaxis()
    axes.set_xlabel("Importance (PED-ANOVA; the parts of an objective sum to 1)")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure
