"""Where in depth the symmetry breaks: which state first feels that earlier tokens were permuted."""

import pandas as pd

from pipeline.reporting import cells as grid
from pipeline.reporting import figures
from pipeline.reporting.evidence import each
from pipeline.reporting.mechanism import panels
from pipeline.reporting.mechanism.finding import Finding, Measured
from pipeline.reporting.mechanism.generic import MOMENTS, brief, counted
from pipeline.reporting.mechanism.pairs import initial, trained
from pipeline.reporting.page import Figure, Section, Table
from pipeline.reporting.wording import listed, plural

TITLE = "Where in depth does the symmetry break?"
MOVED = 1e-6
"""Relative change, in float32, that counts as one."""
EXPLANATION = (
    "Earlier tokens of a prompt are permuted, and each token's state is compared with its own state before, wherever "
    "it now stands: the norm of the change over the norm. A model that sees a set does not move at all. Depth 0 are "
    "the embeddings, depth d what d layers leave."
)
LAST = Figure(
    "depth.png",
    "Relative change of a token's state by depth and cell when earlier tokens are permuted",
    f"The last token's position stays, the others move (their mean). {MOMENTS}",
)
ALONG = Figure(
    "depth_along_training.png",
    "Relative change of the last state over training steps, by cell",
    "The last token after the last layer, a line per seed; the first point is before training.",
)


def section(measured: Measured) -> Finding:
    """The section, from the table `depth`."""
    table = measured.tables.get("depth", pd.DataFrame())
    if table.empty:
        return Finding(Section(TITLE, [EXPLANATION, "Nothing was measured."], level=3), None)
    cells = pd.concat([members for _, members in grid.in_groups(measured.cells)])
    end = table["position"].max()
    last = table[table["position"] == end]
    keys = [*panels.MEMBER, "depth"]
    others = table[table["position"] < end].groupby(keys, sort=False, as_index=False)["change_of_token"].mean()
    paragraphs = [EXPLANATION, *_spoken(last, others, cells)]
    deepest = last[last["depth"] == last.groupby("ablation")["depth"].transform("max")]
    labels = ("Depth (layers passed)", "Relative change of a token's state")
    draw = {
        LAST: lambda: panels.lines(
            last, cells, "change_of_token", along="depth", labels=labels, dashed=(others, "the other tokens")
        ),
        ALONG: lambda: _along(deepest, cells),
    }
    shown = [LAST, ALONG] if ((table["step"] > 0) & (table["trained"] == 0)).any() else [LAST]
    rows = [_row(cell, last[last["ablation"] == cell["ablation"]]) for cell in each(cells)]
    headers = ["Cell", *(f"Depth {depth}" for depth in range(int(table["depth"].max()) + 1))]
    caption = counted("Change of the last token's state as trained: mean over seeds (bootstrap 95% interval)", table)
    return Finding(
        Section(TITLE, paragraphs, shown, [Table(headers, [_filled(row, len(headers)) for row in rows], caption)], 3),
        _short(last, cells),
        {figure.name: figures.png(draw[figure]) for figure in shown},
    )


def first_moved(rows: pd.DataFrame) -> int | None:
    """The smallest depth at which every member's state moves; None where at none."""
    moved = rows.groupby("depth")["change_of_token"].min()
    depths = moved.index[moved > MOVED]
    return int(depths[0]) if len(depths) else None


def _spoken(last: pd.DataFrame, others: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    texts = []
    for blind, chosen in (("none", cells[cells["positional"] == "none"]), ("PE", cells[cells["positional"] != "none"])):
        parts: dict[tuple[object, ...], list[str]] = {}
        for name in chosen["ablation"]:
            own, other = (trained(rows[rows["ablation"] == name]) for rows in (last, others))
            start = initial(last[last["ablation"] == name])
            if len(own):
                key = (first_moved(own), first_moved(start) if len(start) else None, first_moved(other))
                parts.setdefault(key, []).append(f"`{name}`")
        if parts:
            which = "Without positional encoding" if blind == "none" else "With positional encoding"
            said = [
                f"{listed(names)}: the last token {_at(own)} (before training: {_at(start)}), the others {_at(other)}"
                for (own, start, other), names in parts.items()
            ]
            texts.append(f"**{which}**, the depth from which on permuting moves the state: {'; '.join(said)}.")
    return texts


def _at(depth: object) -> str:
    return "never" if depth is None else f"from depth {depth}"


def _short(last: pd.DataFrame, cells: pd.DataFrame) -> str | None:
    plain = grid.find(cells, positional="none", attention="causal", residual_free_attention="", residual_free_mlp="")
    depths = {name: first_moved(trained(last[last["ablation"] == name])) for name in plain["ablation"]}
    found = {depth for name, depth in depths.items() if depth is not None}
    if len(found) != 1:
        return None
    n = last[last["ablation"].isin([name for name, depth in depths.items() if depth is not None])]["seed"].nunique()
    return (
        f"Without positional encoding the causal mask first makes the last token's state depend on the order of the "
        f"earlier ones after {plural(found.pop(), 'layer')} (n = {n})."
    )


def _along(deepest: pd.DataFrame, cells: pd.DataFrame) -> figures.Figure:
    figure, axes = panels.grid_of(cells, 2.0)
    for panel, cell in zip(axes, each(cells), strict=True):
        for _, line in deepest[deepest["ablation"] == cell["ablation"]].groupby("seed", sort=False):
            ordered = line.sort_values("step")
            color = figures.COLORS[cell["positional"]]
            panel.plot(ordered["step"] + 1, ordered["change_of_token"], "-o", color=color, markersize=3, linewidth=1.3)
        panel.set_xscale("log")
    figure.supxlabel("Step + 1", fontsize=11)
    figure.supylabel("Relative change of the last state", fontsize=11)
    figures.explain(figure, figures.encodings(cells, marker="o", markersize=3, linewidth=1.3))
    return figure


def _row(cell: pd.Series, rows: pd.DataFrame) -> list[str]:
    by_depth = [brief(values["change_of_token"], 2) for _, values in trained(rows).groupby("depth")]
    return [f"`{cell['ablation']}`", *by_depth]


def _filled(row: list[str], width: int) -> list[str]:
    return row + ["–"] * (width - len(row))
