"""The figure that compares tasks."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.reporting import style
from pipeline.reporting.wording import percent


def draw_outcomes_by_task(table: pd.DataFrame, kinds: Sequence[str]) -> Figure:
    """Draw the outcome of each kind of ablation on each task as a table of coloured cells.

    Args:
        table: content of `tasks.csv`.
        kinds: kinds of ablations, in the order of the columns.
    """
    by_task = table.drop_duplicates("task").set_index("task")
    tasks = list(by_task.index)
    outcomes = table.set_index(["task", "kind"])
    figure = Figure(figsize=(style.FIGURE_WIDTH, 1.9 + 0.36 * len(tasks)), layout="constrained")
    axes = figure.subplots()
    shades = outcomes["shade"].unstack().reindex(index=tasks, columns=list(kinds)).to_numpy(float)

    def cell_text(row: int, column: int) -> str:
        if np.isnan(shades[row, column]):
            return ""
        outcome = outcomes.loc[(tasks[row], kinds[column])]
        if pd.isna(outcome["test_bits"]):
            return f"{outcome['converged']}/{outcome['runs']}"
        return f"{outcome['test_bits']:.2f}"

    names = [task if by_task.loc[task, "order_counts"] else f"{task} (control)" for task in tasks]
    style.draw_tiles(axes, shades, cell_text, row_names=names, column_names=[textwrap.fill(kind, 14) for kind in kinds])
    for row, task in enumerate(tasks):
        ceiling = by_task.loc[task, "ceiling"]
        axes.text(len(kinds) - 0.4, row, "" if pd.isna(ceiling) else percent(float(ceiling)), ha="left", va="center")
        axes.get_yticklabels()[row].set_fontweight("bold" if by_task.loc[task, "order_counts"] else "normal")
    axes.text(len(kinds) - 0.4, -0.62, "most possible\nwithout order", ha="left", va="bottom")
    axes.set_xlim(-0.5, len(kinds) + 0.45)
    return figure
