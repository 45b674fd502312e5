"""Whether the column of states above a position stays about that position's token, and what residuals do for it."""

import pandas as pd

from pipeline.reporting import cells as grid
from pipeline.reporting import figures
from pipeline.reporting.comparisons import Paired, corrected
from pipeline.reporting.evidence import each
from pipeline.reporting.mechanism import drawings, pairs
from pipeline.reporting.mechanism.finding import Finding, Measured
from pipeline.reporting.page import Figure, Section, Table
from pipeline.reporting.wording import listed, p_value, percent, plural, points

TITLE = "Does the column above a position stay about its token?"
MEMBER = ["ablation", "seed", "step", "trained"]
WHOLE, LACKING, LEANING = (
    "with every residual connection",
    "right after a layer that lacks one",
    "right after such a layer that started as the identity",
)
HEAT_MAPS = Figure(
    "slices.png",
    "Accuracy of reading the token at each position from the column above each position, a panel per cell",
    "Trained, after the last layer, mean over seeds. Row: the column that is read; column: the token that is looked "
    "for. A dark diagonal: columns are about their own tokens.",
)
RATIOS = Figure(
    "correlation_ratio.png",
    "Correlation of units within a position over that across positions, by depth, a panel per cell",
    "A line per seed, coloured as trained; log scale. Depth 0 is the embeddings.",
)


def section(measured: Measured) -> Finding:
    """The section, from the tables `slices` and `correlation_ratio`."""
    paragraphs: list[str] = []
    tables: list[Table] = []
    pictures, images, short = [], {}, None
    cells = pd.concat([members for _, members in grid.in_groups(measured.cells)])
    slices = measured.tables.get("slices", pd.DataFrame())
    if slices.empty:
        paragraphs.append("Which tokens can be read above a position was not measured here.")
    else:
        short, text, tables = _own_token(measured.cells, cells, slices)
        paragraphs += text
        if len(pairs.trained(slices)):
            pictures.append(HEAT_MAPS)
            images[HEAT_MAPS.name] = figures.png(lambda: drawings.heat_maps(slices, cells))
    ratios = measured.tables.get("correlation_ratio", pd.DataFrame())
    if ratios.empty:
        paragraphs.append("How the units above a position vary together was not measured here.")
    else:
        paragraphs.append(_vary_together(ratios, measured.cells))
        pictures.append(RATIOS)
        images[RATIOS.name] = figures.png(lambda: drawings.ratio_by_depth(ratios, cells))
    return Finding(Section(TITLE, paragraphs, pictures, tables, level=3), short, images)


def dominance(slices: pd.DataFrame) -> pd.DataFrame:
    """How far the own token is the best readable one, by member and depth.

    Returns:
        `ablation, seed, step, trained, depth, dominance, margin`: the share of positions whose own token is read
        better than every other, and by how much on average (accuracy less that of the best other token).
    """
    place = [*MEMBER, "depth", "position"]
    diagonal = slices["position"] == slices["token_position"]
    own = slices[diagonal].set_index(place)["accuracy"]
    margin = own - slices[~diagonal].groupby(place)["accuracy"].max()
    table = pd.DataFrame({"dominance": (margin > 0).astype(float), "margin": margin})
    return table.groupby(level=[*MEMBER, "depth"], sort=False).mean().reset_index()


def depth_to_read(cell: pd.Series) -> int:
    """After the last layer that lacks a residual connection; after the last of all where none does."""
    layers = " ".join(cell[sublayer] for sublayer in grid.SUBLAYERS).split()
    return 1 + max(map(int, layers)) if layers else int(cell["layers"])


def _own_token(
    all_cells: pd.DataFrame, ordered: pd.DataFrame, slices: pd.DataFrame
) -> tuple[str | None, list[str], list[Table]]:
    measures = dominance(slices)
    depths = {cell["ablation"]: depth_to_read(cell) for cell in each(all_cells)}
    here = measures[measures["depth"] == measures["ablation"].map(depths)]
    positions = slices["position"].nunique()
    equal = sum(1 / k for k in range(1, positions + 1)) / positions
    paragraphs = [
        f"From the state above each of the {positions} positions a linear probe reads the token at every position, "
        f"over rows of random tokens. **Dominance** is the share of positions whose own token is read best, the "
        f"**margin** by how many percentage points of accuracy. A causal model cannot know the tokens to the right "
        f"by construction; if a column held all it can see equally well, chance alone would give a dominance of "
        f"about {percent(equal)} with a causal mask and {percent(1 / positions)} with full attention. Cells that lack "
        f"residual connections are read right after the last layer that lacks one, the others after the last layer."
    ]
    parts = []
    last = pairs.trained(here)
    kinds = last["ablation"].map(_kinds(all_cells))
    for kind, rows in ((kind, last[kinds == kind]) for kind in (WHOLE, LACKING, LEANING)):
        if rows.empty:
            paragraphs += [f"No trained run {kind} was measured."] if kind != LEANING else []
            continue
        share, runs = pairs.estimate(rows["dominance"].tolist(), percent), plural(len(rows), "trained run")
        parts.append(f"{share} of the positions {kind} (n = {runs})")
        margin = pairs.estimate(rows["margin"].tolist(), points)
        paragraphs.append(
            f"**{kind[0].upper()}{kind[1:]}** ({plural(rows['ablation'].nunique(), 'cell')}, n = {runs} taken "
            f"together): dominance {share}, margin {margin} points."
        )
    told, compared = _against_whole(measures, all_cells, depths)
    table = _table(here, ordered, depths)
    short = f"A position's own token is the one best read from its column at {listed(parts)}." if parts else None
    return short, paragraphs + told, [table, *compared]


def _kinds(cells: pd.DataFrame) -> dict[str, str]:
    """Each cell's name, and what its residual connections are."""
    cells = pairs.with_start(cells)
    kinds = pd.Series(WHOLE, index=cells["ablation"])
    kinds[grid.residual_free(cells).to_numpy()] = LACKING
    kinds[(grid.residual_free(cells) & (cells[pairs.START] == "identity")).to_numpy()] = LEANING
    return {str(name): kind for name, kind in kinds.items()}


def _against_whole(
    measures: pd.DataFrame, cells: pd.DataFrame, depths: dict[str, int]
) -> tuple[list[str], list[Table]]:
    """Each residual-free cell against its whole counterpart, both at the depth where the former is read."""
    found = pairs.whole(cells)
    if not found:
        return ["No cell that lacks a residual connection has a counterpart here that lacks none."], []
    last = pairs.trained(measures)
    differences = corrected(
        [pairs.difference(last[last["depth"] == depths[pair[0]]], "margin", *pair) for pair in found]
    )
    told = [(pair, result) for pair, result in zip(found, differences, strict=True) if result]
    if not told:
        return ["The residual-free cells share no measured seed with their whole counterparts."], []
    results = [result for _, result in told]
    lower = sum(result.median < 0 for result in results)
    clear = sum(result.median < 0 and result.p < pairs.ALPHA for result in results)
    text = (
        f"Against the same cell with every residual connection, at the same depth, the margin is smaller in {lower} "
        f"of {plural(len(told), 'comparison')} (median over shared seeds), {clear} of them with p < {pairs.ALPHA} "
        f"(sign-flip permutation test, paired by seed, Holm-corrected).{pairs.caution(results)}"
    )
    rows = [[f"`{first}` − `{second}`", str(depths[first]), *_row(result)] for (first, second), result in told]
    headers = ["Difference", "Depth", "Shared seeds", "Median", "Min", "Max", "p"]
    return [text], [Table(headers, rows, caption="Difference in the margin, percentage points")]


def _row(result: Paired) -> list[str]:
    spread = [points(value) for value in (result.median, result.low, result.high)]
    return [str(result.seeds), *spread, p_value(result.p).removeprefix("p = ")]


def _table(here: pd.DataFrame, cells: pd.DataFrame, depths: dict[str, int]) -> Table:
    first, last = (rows.groupby("ablation") for rows in (pairs.initial(here), pairs.trained(here)))
    rows = []
    for name in cells["ablation"]:
        after = last.get_group(name) if name in last.groups else here.head(0)
        before = first.get_group(name) if name in first.groups else here.head(0)
        rows.append(
            [
                f"`{name}`",
                str(depths[name]),
                str(len(after)),
                pairs.estimate(after["dominance"].tolist(), percent),
                pairs.estimate(after["margin"].tolist(), points),
                pairs.estimate(before["dominance"].tolist(), percent),
            ]
        )
    headers = ["Cell", "Depth", "n", "Dominance", "Margin, points", "Dominance untrained"]
    return Table(headers, rows, caption="Mean over seeds (bootstrap 95% interval)")


def _vary_together(ratios: pd.DataFrame, cells: pd.DataFrame) -> str:
    """The correlation ratio after the last layer, with and without every residual connection."""
    last = pairs.trained(ratios)
    layers = cells.set_index("ablation")["layers"]
    last = last[last["depth"] == last["ablation"].map(layers)]
    kinds = last["ablation"].map(_kinds(cells))
    parts = [
        f"{pairs.estimate(rows['ratio'].tolist(), _number)} {kind} (n = {plural(len(rows), 'trained run')})"
        for kind, rows in (
            ("with every residual connection", last[kinds == WHOLE]),
            ("where some lack", last[kinds == LACKING]),
            ("where some lack and the start was the identity", last[kinds == LEANING]),
        )
        if len(rows)
    ]
    text = (
        "If a column is one thing, its units vary together: the mean correlation of two units above the same position "
        "is large against that of units above different positions. "
    )
    if not parts:
        return text + "No trained run was measured."
    reference = _number(float(last["reference"].iloc[0]))
    return f"{text}After the last layer the ratio is {listed(parts)}; without any structure it is {reference}."


def _number(value: float) -> str:
    return f"{value:.2f}"
