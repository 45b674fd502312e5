"""A section for any measurement that no other tells of, from what the measurement says of itself."""

from collections.abc import Callable
from functools import partial

from pipeline.measurement.registry import Measurement
from pipeline.params import Ablation
from pipeline.reporting.claims import Claim, Estimate, select_rows
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.section import DOTS, LINES, SectionContent, panel_figure, table_by_ablation
from pipeline.reporting.experiment.tables import RUN_KEYS
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure


def generic_section(measurement: Measurement, results: TaskResults) -> SectionContent | None:
    """Its explanation, the mean of its first value by ablation (at the last depth, if it has depths), and a figure."""
    table = results.measurement(measurement.name)
    if table.empty:
        return None
    value, words = next(iter(measurement.values.items()))
    along = next((name for name in ("depth", "layer") if name in table), None)
    others = [str(column) for column in table if column not in (*RUN_KEYS, along, *measurement.values)]
    first = {name: table[name].iloc[0] for name in others}  # of further keys, what comes first is shown
    shown = select_rows(table, first)
    words += "".join(f", {name}: {choice}" for name, choice in first.items())
    reference = (measurement.reference, "nothing to find") if measurement.reference is not None else None
    heading = words[0].upper() + words[1:]
    title = f"{heading} by ablation"
    if along:
        labels = ("Depth (layers passed)" if along == "depth" else "Layer", heading)
        lines = partial(measured.lines_by_ablation, shown, value=value, along=along, labels=labels, reference=reference)
        figure = panel_figure(results, measurement.name, title, LINES, lines)
    else:
        dots = partial(measured.dots_by_ablation, shown, results.ablations, value, label=words, reference=reference)
        figure = Figure(measurement.name, title, DOTS, dots)
    last = {str(name): int(rows.max()) for name, rows in table.groupby("ablation")[along]} if along else {}

    def at_end(trained: int) -> Callable[[Ablation], Estimate | None]:
        def look_up(ablation: Ablation) -> Estimate | None:
            place = {along: last[ablation.name]} if along and ablation.name in last else {}
            return results.mean(measurement.name, value, "number", ablation, trained=trained, **place, **first)

        return look_up

    columns = {"As trained": at_end(1), "Before training": at_end(0)}
    where = f" at the last {along}" if along else ""
    caption = f"The {words}{where}: mean over seeds (t 95% interval)"
    return SectionContent(
        _range([at_end(1)(ablation) for ablation in results.ablations], words + where),
        [table_by_ablation(results.ablations, columns, caption)],
        [figure],
        {"explanation": measurement.explanation, "reference": measurement.reference},
    )


def _range(found: list[Estimate | None], words: str) -> list[Claim]:
    known = sorted((one for one in found if one), key=lambda one: one.value)
    if not known:
        return []
    ablations = {
        "least_ablation": known[0].source.where["ablation"],
        "most_ablation": known[-1].source.where["ablation"],
    }
    return [Claim("range", {"least": known[0], "most": known[-1]}, {"words": words, **ablations})]
