"""Whether the position can be read from the residual stream by a linear probe."""

import pandas as pd

from pipeline.reporting import cells as grid
from pipeline.reporting import figures
from pipeline.reporting.evidence import each
from pipeline.reporting.mechanism import panels
from pipeline.reporting.mechanism.finding import Finding, Measured
from pipeline.reporting.mechanism.generic import MOMENTS, brief, counted, estimate
from pipeline.reporting.mechanism.pairs import initial, trained
from pipeline.reporting.page import Figure, Section, Table

TITLE = "Is position readable?"
EXPLANATION = (
    "A linear probe (ridge regression, judged on held-out rows) reads the absolute position from one state, and the "
    "distance between two positions from both their states. On rows of random tokens only the model can tell positions "
    "apart; on task rows the layout helps (the `+` always stands at the same place when operands are padded). R² is 1 "
    "for a perfect probe and 0 for one that knows nothing; the control learns shuffled labels."
)
CAPTION = "As trained, random rows unless said: mean over seeds (bootstrap 95% interval)"
PICTURE = Figure(
    "position_probe.png",
    "R² of a linear probe for absolute position on random rows, by depth and cell",
    f"{MOMENTS} A probe that knows nothing has 0.",
)


def section(measured: Measured) -> Finding:
    """The section, from the table `position_probe`."""
    table = measured.tables.get("position_probe", pd.DataFrame())
    if table.empty:
        return Finding(Section(TITLE, [EXPLANATION, "Nothing was measured."], level=3), None)
    cells = pd.concat([members for _, members in grid.in_groups(measured.cells)])
    probes, control = table[table["control"] == 0], table[table["control"] == 1]
    position = probes[(probes["rows"] == "random") & (probes["target"] == "position")]
    labels = ("Depth (layers passed)", "R² of position, random rows")
    rows = [_row(cell["ablation"], probes, position) for cell in each(cells)]
    headers = [
        "Cell",
        "Best depth",
        "R² of position there",
        "before training",
        "Error there (positions)",
        "R² of distance there",
        "R² of position, task rows",
    ]
    return Finding(
        Section(
            TITLE,
            [EXPLANATION, *_spoken(position, control, cells)],
            [PICTURE],
            [Table(headers, rows, caption=counted(CAPTION, table))],
            level=3,
        ),
        _short(position, cells),
        {
            PICTURE.name: figures.png(
                lambda: panels.lines(
                    position.assign(r2=position["r2"].clip(lower=-0.1)),
                    cells,
                    "r2",
                    along="depth",
                    labels=labels,
                    reference=(0.0, "knows nothing"),
                )
            )
        },
    )


def best_depth(position: pd.DataFrame, name: str) -> int | None:
    """Where position is best readable in the trained members of a cell."""
    means = trained(position[position["ablation"] == name]).groupby("depth")["r2"].mean()
    return int(means.sort_values(ascending=False, kind="stable").index.astype(int)[0]) if len(means) else None


def _at(table: pd.DataFrame, name: str, depth: int) -> pd.DataFrame:
    return table[(table["ablation"] == name) & (table["depth"] == depth)]


def _row(name: str, probes: pd.DataFrame, position: pd.DataFrame) -> list[str]:
    depth = best_depth(position, name)
    if depth is None:
        return [f"`{name}`", *["–"] * 6]
    own = _at(position, name, depth)
    distance = _at(probes[(probes["rows"] == "random") & (probes["target"] == "distance")], name, depth)
    task = _at(probes[(probes["rows"] == "task") & (probes["target"] == "position")], name, depth)
    return [
        f"`{name}`",
        str(depth),
        brief(trained(own)["r2"]),
        brief(initial(own)["r2"]),
        brief(trained(own)["error"]),
        brief(trained(distance)["r2"]),
        brief(trained(task)["r2"]),
    ]


def _spoken(position: pd.DataFrame, control: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    texts = []
    shuffled = control["r2"].max()
    if len(control):
        texts.append(f"The control never explains more than R² = {shuffled:.3f}, over all cells, depths and targets.")
    for attention, positional, which in (
        ("causal", "none", "Causal, no positional encoding"),
        ("causal", "learned", "Causal, learned positional encoding"),
        ("full", "none", "Full attention, no positional encoding"),
    ):
        chosen = grid.find(
            cells, attention=attention, positional=positional, residual_free_attention="", residual_free_mlp=""
        )
        said = []
        for name in chosen["ablation"]:
            depth = best_depth(position, name)
            if depth is not None:
                own = _at(position, name, depth)
                said.append(
                    f"`{name}` {estimate(trained(own)['r2'])} at depth {depth} as trained, "
                    f"{estimate(initial(own)['r2'])} before training"
                )
        if said:
            texts.append(f"**{which}**, R² of absolute position on random rows: {'; '.join(said)}.")
    return texts


def _short(position: pd.DataFrame, cells: pd.DataFrame) -> str | None:
    plain = {"attention": "causal", "residual_free_attention": "", "residual_free_mlp": ""}
    parts = []
    for positional, words in (("none", "without positional encoding"), ("learned", "with learned encoding")):
        chosen = grid.find(cells, positional=positional, **plain)
        if len(chosen) and (depth := best_depth(position, name := chosen["ablation"].iloc[0])) is not None:
            r2 = trained(_at(position, name, depth))["r2"]
            parts.append(f"R² = {estimate(r2, 2)} {words} (`{name}`, depth {depth})")
    if len(parts) < 2:
        return None
    return f"How well a linear probe reads the absolute position on random rows: {parts[0]}; {parts[1]}."
