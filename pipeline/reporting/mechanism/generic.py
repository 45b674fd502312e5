"""A section for any measurement, from what the measurement says of itself."""

import pandas as pd

from pipeline.measurement.intervals import bootstrap_interval
from pipeline.measurement.registry import Measurement
from pipeline.reporting import figures
from pipeline.reporting.cells import in_groups
from pipeline.reporting.mechanism import panels
from pipeline.reporting.mechanism.finding import Finding, Measured
from pipeline.reporting.mechanism.pairs import initial, trained
from pipeline.reporting.page import Figure, Section, Table

MOMENTS = "A line or dot per seed, coloured as trained."


def section(measured: Measured, measurement: Measurement) -> Finding:
    """Its explanation, the mean of its first value by cell (at the last depth, if it has depths), and a figure."""
    table = measured.tables.get(measurement.name, pd.DataFrame())
    if table.empty:
        return Finding(Section(measurement.title, [f"{measurement.explanation} Nothing was measured."], level=3), None)
    value, words = next(iter(measurement.values.items()))
    along = panels.axis_of(table)
    keys = [*panels.MEMBER, *([along] if along else [])]
    others = [str(column) for column in table if column not in (*keys, *measurement.values)]
    mean = table.groupby(keys, sort=False)[[value]].mean().reset_index()
    cells = pd.concat([members for _, members in in_groups(measured.cells)])
    name = f"{measurement.name}.png"
    reference = (measurement.reference, "nothing to find") if measurement.reference is not None else None
    if along:
        labels = ("Depth (layers passed)" if along == "depth" else "Layer", words[0].upper() + words[1:])
        image = figures.png(lambda: panels.lines(mean, cells, value, along=along, labels=labels, reference=reference))
        last = mean[mean[along] == mean.groupby("ablation")[along].transform("max")]
    else:
        image = figures.png(lambda: panels.dots(mean, cells, value, label=words, line=reference))
        last = mean
    paragraphs = [measurement.explanation, _spoken(last, cells, value, words, along, measurement.reference)]
    if others:
        paragraphs.append(f"Averaged over {', '.join(others)}.")
    return Finding(
        Section(
            measurement.title,
            paragraphs,
            [Figure(name, f"{words} by cell", MOMENTS)],
            [by_cell(last, cells, value, f"Mean over seeds of the {words} (bootstrap 95% interval)")],
            level=3,
        ),
        None,
        {name: image},
    )


def _spoken(
    last: pd.DataFrame, cells: pd.DataFrame, value: str, words: str, along: str | None, reference: float | None
) -> str:
    """The range over cells, in a sentence."""
    means = trained(last).groupby("ablation")[value].mean().reindex(list(cells["ablation"])).dropna()
    if means.empty:
        return "No trained member could be measured."
    n = trained(last).groupby("ablation")["seed"].nunique().to_dict()
    by_size = list(means.sort_values(kind="stable").index.astype(str))
    least, most = by_size[0], by_size[-1]
    where = f" at the last {along}" if along else ""
    text = (
        f"As trained{where}, the {words} goes from {means.min():.3g} (`{least}`, n = {n[least]}) to "
        f"{means.max():.3g} (`{most}`, n = {n[most]})."
    )
    return text + (f" Without anything to find it is {reference:g}." if reference is not None else "")


def by_cell(table: pd.DataFrame, cells: pd.DataFrame, value: str, caption: str) -> Table:
    """A row per cell: mean, interval and n, as trained and before."""
    rows = [
        [f"`{name}`", *(brief(moment(table[table["ablation"] == name])[value]) for moment in (trained, initial))]
        for name in cells["ablation"]
    ]
    return Table(["Cell", "As trained", "Before training"], rows, caption=counted(caption, table))


def estimate(values: "pd.Series[float]", digits: int = 3) -> str:
    """`0.51 [0.49–0.53], n = 3`."""
    known = values.dropna()
    return f"{brief(values, digits)}, n = {len(known)}" if len(known) else "–"


def brief(values: "pd.Series[float]", digits: int = 3) -> str:
    """`0.51 [0.49–0.53]`, for a table whose caption says n."""
    known = values.dropna().tolist()
    if not known:
        return "–"
    low, high = bootstrap_interval(known)
    return f"{sum(known) / len(known):.{digits}g} [{low:.{digits}g}–{high:.{digits}g}]".replace("-0.", "−0.")


def counted(caption: str, table: pd.DataFrame) -> str:
    """The caption, and how many members a cell has."""
    sizes = sorted(set(table.groupby("ablation")["seed"].nunique()))
    return f"{caption}; n = {' or '.join(map(str, sizes))} seeds a cell"
