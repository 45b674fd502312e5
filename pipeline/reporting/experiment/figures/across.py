"""Tasks by kinds of ablations."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.reporting import style
from pipeline.reporting.wording import percent


def matrix(table: pd.DataFrame, kinds: Sequence[str]) -> Figure:
    """What became of each kind of ablation on each task.

    Args:
        table: `tasks.csv`.
        kinds: the columns, in order.
    """
    tasks = list(dict.fromkeys(table["task"]))
    of = table.set_index(["task", "kind"])
    figure = Figure(figsize=(style.WIDTH, 1.9 + 0.36 * len(tasks)), layout="constrained")
    axes = figure.subplots()
    shades = of["shade"].unstack().reindex(index=tasks, columns=list(kinds)).to_numpy(float)

    def text(row: int, column: int) -> str:
        if np.isnan(shades[row, column]):
            return ""
        one = of.loc[(tasks[row], kinds[column])]
        return f"{one['converged']}/{one['runs']}" if pd.isna(one["test_bits"]) else f"{one['test_bits']:.2f}"

    about = table.drop_duplicates("task").set_index("task")
    names = [task if about.loc[task, "order_counts"] else f"{task} (twin)" for task in tasks]
    style.draw_tiles(axes, shades, text, rows=names, columns=[textwrap.fill(one, 14) for one in kinds])
    for row, task in enumerate(tasks):
        ceiling = about.loc[task, "ceiling"]
        axes.text(len(kinds) - 0.4, row, "" if pd.isna(ceiling) else percent(float(ceiling)), ha="left", va="center")
        axes.get_yticklabels()[row].set_fontweight("bold" if about.loc[task, "order_counts"] else "normal")
    axes.text(len(kinds) - 0.4, -0.62, "most possible\nwithout order", ha="left", va="bottom")
    axes.set_xlim(-0.5, len(kinds) + 0.45)
    return figure
