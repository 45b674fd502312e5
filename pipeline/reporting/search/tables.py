"""The tables of a study's report, in words."""

import pandas as pd

from pipeline.reporting.page import Table
from pipeline.reporting.search import answer
from pipeline.reporting.search.figures import NAMES
from pipeline.reporting.search.words import kept, members, pattern, settings
from pipeline.reporting.wording import count, percent, plural


def front(trials: pd.DataFrame, minimized: str) -> Table:
    """`answer.pareto_front`, a row each."""
    title = NAMES[minimized][0].upper() + NAMES[minimized][1:]
    varied = _varied(trials)
    rows = [
        [
            members(trial).removesuffix(" members"),
            percent(trial["validation_exact_match"]),
            kept(trial) if minimized == "residuals_kept" else f"{trial[minimized]:,.4g}",
            f"trial {trial['trial']}: {pattern(trial)}{settings(trial, varied)}",
        ]
        for _, trial in answer.pareto_front(trials, minimized).iterrows()
    ]
    return Table(["Members converged", "Mean exact match", title, "By"], rows)


def by_depth(trials: pd.DataFrame) -> Table:
    """`answer.sparsest_by_depth`, a row per depth."""
    varied = _varied(trials)
    rows = [
        [
            str(row["layers"]),
            str(row["tried"]),
            str(row["solved"]),
            f"{row['best_converged']}/{row['members']}",
            percent(row["best_exact_match"]),
            kept(row) if row["solved"] else "–",
            f"trial {row['trial']}: {pattern(row)}{settings(row, varied)}" if row["solved"] else "–",
        ]
        for _, row in answer.sparsest_by_depth(trials).iterrows()
    ]
    headers = ["Layers", "Tried", "All converged", "Best", "Best exact match", "Fewest residuals kept", "By"]
    caption = (
        "Configurations by depth; **best** is the most members that converged in one, and the fewest residual "
        "connections are those kept where all did"
    )
    return Table(headers, rows, caption)


def residual_map(trials: pd.DataFrame) -> Table:
    """`answer.residual_map`: a row per connection, with the interval over all depths and the counts at each."""
    found = answer.residual_map(trials)
    depths = [int(depth) for depth in found["layers"].dropna().unique()]
    rows = []
    for (layer, sublayer), counts in found.groupby(["layer", "sublayer"], sort=False):
        k_of_n = {
            0 if pd.isna(depth) else int(depth): (int(k), int(n))
            for depth, k, n in zip(counts["layers"], counts["solved"], counts["lacking"], strict=True)
        }
        by_each = ["{}/{}".format(*k_of_n[depth]) if k_of_n.get(depth, (0, 0))[1] else "–" for depth in depths]
        pooled = count(*k_of_n[0]) if k_of_n[0][1] else "–"
        rows.append([f"layer {layer}, {'MLP' if sublayer == 'mlp' else sublayer}", pooled, *by_each])
    headers = ["Without that of", "At all depths", *(plural(depth, "layer") for depth in depths)]
    return Table(headers, rows, "Configurations without the connection of which every member converged")


def _varied(trials: pd.DataFrame) -> list[str]:
    """What the study varies beside depth and residual connections."""
    known = answer.evidence(trials)
    return [name for name in answer.SETTINGS if known[name].nunique() > 1]
