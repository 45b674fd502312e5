"""Scale of activations and gradients at the norm after a missing residual connection."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation
from pipeline.reporting.claims import Claim, Estimate, select_rows
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.section import (
    CellFunction,
    SectionContent,
    panel_figure,
    register_section,
    table_by_ablation,
)
from pipeline.reporting.experiment.task_results import TaskResults


@register_section(
    "mechanism", 65, "What does the norm after a missing connection find?", measurements=["activation_scale"]
)
def build_signal_section(results: TaskResults) -> SectionContent | None:
    """Build the section that compares residual-free and intact ablations at the norm after a missing connection."""
    table = results.measurement_table("activation_scale")
    pairs = comparisons.intact_pairs(results.ablations)
    if table.empty or not pairs:
        return None
    counterparts = {ablation.name: intact for ablation, intact in pairs}

    def read_mean_at_norm(value: str, measured: Ablation, residual_free: Ablation, trained: int) -> Estimate | None:
        """Read a mean of the ablation `measured` at the norm after the connections that `residual_free` lacks."""
        keys = norm_after_missing_connection(residual_free)
        return results.measured_mean("activation_scale", value, "number", measured, trained=trained, **keys)

    def scale_column(value: str, trained: int, *, of_intact: bool) -> CellFunction:
        return lambda ablation: read_mean_at_norm(
            value, counterparts[ablation.name] if of_intact else ablation, ablation, trained
        )

    columns: dict[str, CellFunction] = {}
    for value, words in (("entering", "RMS"), ("jacobian", "Jacobian")):
        for trained, of_intact in ((0, False), (0, True), (1, False), (1, True)):
            header = words + (", intact" if of_intact else "") + (", trained" if trained else "")
            columns[header] = scale_column(value, trained, of_intact=of_intact)
    caption = (
        "Root mean square of the input of the norm after the missing connections, and size of its Jacobian, before and "
        "after training: mean over seeds (t 95% interval)"
    )
    claims = []
    for ablation, intact in pairs:
        if not switches.lacks_residuals(ablation):
            continue
        estimates = {
            f"{name}_{value}": read_mean_at_norm(value, measured, ablation, 0)
            for name, measured in (("plain", ablation), ("whole", intact))
            for value in ("entering", "jacobian")
        }
        if all(estimates.values()):
            claims.append(Claim("before", estimates, {"plain": ablation.name, "whole": intact.name}))
    residual_free = [ablation for ablation, _ in pairs]
    figure = panel_figure(
        results,
        "signal",
        "Root mean square of the input of the norm after the missing connections, along training, by ablation",
        "A line per seed.",
        lambda ablations: measured.draw_lines_along_training(
            pd.concat(_rows_at_norm(table, ablations)),
            ablations,
            "entering",
            axis_label="Root mean square",
            log_scale=True,
        ),
        candidates=residual_free,
    )
    return SectionContent(claims, [table_by_ablation(residual_free, columns, caption)], [figure])


def norm_after_missing_connection(ablation: Ablation) -> dict[str, Any]:
    """Return the keys `layer` and `sublayer` of the first norm after an ablation's last missing residual connection."""
    free, layer = ablation.model.residual_free, max(ablation.model.residual_free.layers)
    if layer not in free.mlp:
        return {"layer": layer, "sublayer": "mlp"}
    return {"layer": layer + 1, "sublayer": "attention" if layer + 1 < ablation.model.layers else "output"}


def _rows_at_norm(table: pd.DataFrame, ablations: Sequence[Ablation]) -> Iterator[pd.DataFrame]:
    for ablation in ablations:
        yield select_rows(table, {"ablation": ablation.name, **norm_after_missing_connection(ablation)})
