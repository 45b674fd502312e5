"""A section for any measurement that no other tells of, from what the measurement says of itself."""

from collections.abc import Callable
from functools import partial

from pipeline.measurement.registry import Measurement
from pipeline.params import Cell
from pipeline.reporting.claims import Claim, Estimate, rows_at
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.figures import measured
from pipeline.reporting.grid.finding import DOTS, LINES, Finding, by_cell, by_panel
from pipeline.reporting.grid.tables import MEMBER
from pipeline.reporting.page import Figure


def finding(measurement: Measurement, evidence: Evidence) -> Finding | None:
    """Its explanation, the mean of its first value by cell (at the last depth, if it has depths), and a figure."""
    table = evidence.measured(measurement.name)
    if table.empty:
        return None
    value, words = next(iter(measurement.values.items()))
    along = next((name for name in ("depth", "layer") if name in table), None)
    others = [str(column) for column in table if column not in (*MEMBER, along, *measurement.values)]
    first = {name: table[name].iloc[0] for name in others}  # of further keys, what comes first is shown
    shown = rows_at(table, first)
    words += "".join(f", {name}: {choice}" for name, choice in first.items())
    reference = (measurement.reference, "nothing to find") if measurement.reference is not None else None
    heading = words[0].upper() + words[1:]
    title = f"{heading} by cell"
    if along:
        labels = ("Depth (layers passed)" if along == "depth" else "Layer", heading)
        lines = partial(measured.lines, shown, value=value, along=along, labels=labels, reference=reference)
        figure = by_panel(evidence, measurement.name, title, LINES, lines)
    else:
        dots = partial(measured.dots, shown, evidence.cells, value, label=words, reference=reference)
        figure = Figure(measurement.name, title, DOTS, dots)
    last = {str(name): int(rows.max()) for name, rows in table.groupby("ablation")[along]} if along else {}

    def at_end(trained: int) -> Callable[[Cell], Estimate | None]:
        def look_up(cell: Cell) -> Estimate | None:
            place = {along: last[cell.name]} if along and cell.name in last else {}
            return evidence.mean(measurement.name, value, "number", cell, trained=trained, **place, **first)

        return look_up

    columns = {"As trained": at_end(1), "Before training": at_end(0)}
    where = f" at the last {along}" if along else ""
    caption = f"The {words}{where}: mean over seeds (t 95% interval)"
    return Finding(
        _range([at_end(1)(cell) for cell in evidence.cells], words + where),
        [by_cell(evidence.cells, columns, caption)],
        [figure],
        {"explanation": measurement.explanation, "reference": measurement.reference},
    )


def _range(found: list[Estimate | None], words: str) -> list[Claim]:
    known = sorted((one for one in found if one), key=lambda one: one.value)
    if not known:
        return []
    cells = {"least_cell": known[0].source.where["ablation"], "most_cell": known[-1].source.where["ablation"]}
    return [Claim("range", {"least": known[0], "most": known[-1]}, {"words": words, **cells})]
