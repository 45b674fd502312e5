"""Tasks by kinds of cells."""

import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.reporting import style
from pipeline.reporting.wording import percent

DARKEST = 1.15
"""Less than the whole colour map: its darkest blue is hard to tell from black print."""


def matrix(table: pd.DataFrame, kinds: Sequence[str]) -> Figure:
    """What became of each kind of cell on each task.

    Args:
        table: `tasks.csv`.
        kinds: the columns, in order.
    """
    tasks = list(dict.fromkeys(table["task"]))
    of = table.set_index(["task", "kind"])
    figure = Figure(figsize=(style.WIDTH, 1.9 + 0.36 * len(tasks)), layout="constrained")
    axes = figure.subplots()
    shades = of["shade"].unstack().reindex(index=tasks, columns=list(kinds)).to_numpy(float)
    colors = mpl.colormaps["Blues"].with_extremes(bad="#eeeeee")
    axes.imshow(np.ma.masked_invalid(shades), cmap=colors, vmin=0, vmax=DARKEST, aspect="auto")
    for (row, column), shade in np.ndenumerate(shades):
        if not np.isnan(shade):
            one = of.loc[(tasks[row], kinds[column])]
            text = f"{one['converged']}/{one['runs']}" if pd.isna(one["test_bits"]) else f"{one['test_bits']:.2f}"
            axes.text(column, row, text, ha="center", va="center", color="white" if shade > 0.6 else "black")
    twins = table.drop_duplicates("task").set_index("task")
    axes.set_yticks(
        range(len(tasks)), [task if twins.loc[task, "order_counts"] else f"{task} (twin)" for task in tasks]
    )
    for row, task in enumerate(tasks):
        ceiling = twins.loc[task, "ceiling"]
        axes.text(len(kinds) - 0.4, row, "" if pd.isna(ceiling) else percent(float(ceiling)), ha="left", va="center")
        axes.get_yticklabels()[row].set_fontweight("bold" if twins.loc[task, "order_counts"] else "normal")
    axes.text(len(kinds) - 0.4, -0.62, "most possible\nwithout order", ha="left", va="bottom")
    axes.set_xticks(range(len(kinds)), [textwrap.fill(one, 14) for one in kinds])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(np.arange(len(kinds) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(tasks) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)
    axes.set_xlim(-0.5, len(kinds) + 0.45)
    return figure
