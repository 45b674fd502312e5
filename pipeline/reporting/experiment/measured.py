"""The section of any measurement that has no section of its own, built from the measurement's description."""

from collections.abc import Sequence
from functools import partial

from pipeline.measurement.registry import Measurement
from pipeline.params import Ablation
from pipeline.reporting.claims import Claim, Estimate, select_rows
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.section import (
    DOTS_CAPTION,
    LINES_CAPTION,
    SectionContent,
    panel_figure,
    table_by_ablation,
)
from pipeline.reporting.experiment.tables import RUN_KEYS
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure


def build_generic_section(measurement: Measurement, results: TaskResults) -> SectionContent | None:
    """Build the section of a measurement: its explanation, the mean of its first value by ablation, and a figure.

    The mean is at the last depth or layer, if the measurement has any; other key columns are fixed to the value in
    their first row. None if nothing was measured.
    """
    table = results.measurement_table(measurement.name)
    if table.empty:
        return None
    value, words = next(iter(measurement.value_descriptions.items()))
    axis = next((name for name in ("depth", "layer") if name in table), None)
    other_keys = [str(column) for column in table if column not in (*RUN_KEYS, axis, *measurement.value_descriptions)]
    first_values = {name: table[name].iloc[0] for name in other_keys}
    shown = select_rows(table, first_values)
    words += "".join(f", {name}: {choice}" for name, choice in first_values.items())
    reference = (measurement.no_effect_value, "nothing to find") if measurement.no_effect_value is not None else None
    heading = words[0].upper() + words[1:]
    title = f"{heading} by ablation"
    if axis:
        labels = ("Depth (layers passed)" if axis == "depth" else "Layer", heading)
        draw_lines = partial(measured.draw_lines_by_ablation, shown, value_column=value, x_column=axis)
        draw = partial(draw_lines, axis_labels=labels, reference=reference)
        figure = panel_figure(results, measurement.name, title, LINES_CAPTION, draw)
    else:
        draw_dots = partial(measured.draw_dots_by_ablation, shown, results.ablations, value)
        draw = partial(draw_dots, axis_label=words, reference=reference)
        figure = Figure(measurement.name, title, DOTS_CAPTION, draw)
    last = {str(name): int(rows.max()) for name, rows in table.groupby("ablation")[axis]} if axis else {}

    def read_last_mean(ablation: Ablation, trained: int) -> Estimate | None:
        keys = {axis: last[ablation.name]} if axis and ablation.name in last else {}
        return results.measured_mean(
            measurement.name, value, "number", ablation, trained=trained, **keys, **first_values
        )

    columns = {
        "As trained": partial(read_last_mean, trained=1),
        "Before training": partial(read_last_mean, trained=0),
    }
    where = f" at the last {axis}" if axis else ""
    caption = f"The {words}{where}: mean over seeds (t 95% interval)"
    return SectionContent(
        _extreme_mean_claims([read_last_mean(ablation, trained=1) for ablation in results.ablations], words + where),
        [table_by_ablation(results.ablations, columns, caption)],
        [figure],
        {"explanation": measurement.explanation, "reference": measurement.no_effect_value},
    )


def _extreme_mean_claims(means: Sequence[Estimate | None], value_words: str) -> list[Claim]:
    """Return a claim with the smallest and the largest mean; an empty list if all means are None."""
    ordered = sorted((mean for mean in means if mean), key=lambda mean: mean.value)
    if not ordered:
        return []
    least, most = ordered[0], ordered[-1]
    names = {"least_ablation": least.source.where["ablation"], "most_ablation": most.source.where["ablation"]}
    return [Claim("range", {"least": least, "most": most}, {"words": value_words, **names})]
