"""Whether nearby embeddings are alike (Zuo, Guerzhoy, Guerzhoy, COLING 2025, arXiv 2501.00073)."""

import pandas as pd

from pipeline.measurement.intervals import bootstrap_interval
from pipeline.reporting import cells as grid
from pipeline.reporting import figures
from pipeline.reporting.evidence import each
from pipeline.reporting.mechanism import panels
from pipeline.reporting.mechanism.finding import Finding, Measured
from pipeline.reporting.mechanism.generic import MOMENTS, brief, counted
from pipeline.reporting.mechanism.pairs import initial, trained
from pipeline.reporting.page import Figure, Section, Table
from pipeline.reporting.wording import listed

TITLE = "Are nearby embeddings alike?"
CHANCE = 0.5
EXPLANATION = (
    "The adjacency score is the share of pairs (i, j), j < i − 1, for which the state at position i is more like that "
    "at j + 1 than that at j (cosine similarity), averaged over rows; one half is chance "
    "([arXiv 2501.00073](https://arxiv.org/abs/2501.00073)). Equal similarities count one half."
)
CAPTION = "Random rows, as trained: mean over seeds (bootstrap 95% interval)"
PICTURE = Figure("adjacency.png", "Adjacency score on random rows by depth and cell", MOMENTS)


def section(measured: Measured) -> Finding:
    """The section, from the table `adjacency`."""
    table = measured.tables.get("adjacency", pd.DataFrame())
    if table.empty:
        return Finding(Section(TITLE, [EXPLANATION, "Nothing was measured."], level=3), None)
    cells = pd.concat([members for _, members in grid.in_groups(measured.cells)])
    random = table[table["rows"] == "random"]
    labels = ("Depth (layers passed)", "Adjacency score, random rows")
    depths = range(1, int(table["depth"].max()) + 1)
    rows = [
        [
            f"`{cell['ablation']}`",
            *(_estimate(trained(random), cell["ablation"], depth) for depth in depths),
            _estimate(initial(random), cell["ablation"], cell["layers"]),
        ]
        for cell in each(cells)
    ]
    headers = ["Cell", *(f"Depth {depth}" for depth in depths), "Last, before training"]
    return Finding(
        Section(
            TITLE,
            [EXPLANATION, *_spoken(random, cells)],
            [PICTURE],
            [Table(headers, rows, caption=counted(CAPTION, random))],
            level=3,
        ),
        None,
        {
            PICTURE.name: figures.png(
                lambda: panels.lines(
                    random, cells, "adjacency", along="depth", labels=labels, reference=(CHANCE, "chance")
                )
            )
        },
    )


def _estimate(table: pd.DataFrame, name: str, depth: int) -> str:
    return brief(table.loc[(table["ablation"] == name) & (table["depth"] == depth), "adjacency"])


def _spoken(random: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """Which cells' intervals leave out chance, after the last layer; and the check of chance itself."""
    above: dict[str, list[str]] = {"above": [], "below": [], "around": []}
    for cell in each(cells[(cells["positional"] != "none") | (cells["attention"] != "full")]):
        own = trained(random[(random["ablation"] == cell["ablation"]) & (random["depth"] == cell["layers"])])
        if own.empty:
            continue
        low, high = bootstrap_interval(own["adjacency"].tolist())
        side = "above" if low > CHANCE else "below" if high < CHANCE else "around"
        above[side].append(f"`{cell['ablation']}`")
    said = [f"{words} chance in {listed(names)}" for words, names in above.items() if names]
    texts = [f"After the last layer, as trained, the interval of the score lies {'; '.join(said)}."] if said else []
    blind = grid.find(cells, positional="none", attention="full")
    checks = random[random["ablation"].isin(list(blind["ablation"]))]
    if len(checks):
        far = (checks["adjacency"] - CHANCE).abs().max()
        texts.append(
            f"Without encoding and mask it must be chance at every depth: over all members, before and after training, "
            f"it is never further from one half than {far:.3f}, the noise of the rows, which all members share."
        )
    else:
        texts.append("This grid lacks a cell with `positional: none`, `attention: full`, to check chance on.")
    return texts
