"""Why a missing residual connection makes training hard, and why a substitute helps: what the next norm finds."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation
from pipeline.reporting.claims import Claim, Estimate, Unit, select_rows
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.section import Column, SectionContent, panel_figure, section, table_by_ablation
from pipeline.reporting.experiment.task_results import TaskResults


@section("mechanism", 65, "What does the norm after a missing connection find?", measurements=["signal"])
def signal(results: TaskResults) -> SectionContent | None:
    """Each ablation that lacks residual connections beside the same ablation with all, at the norm that comes next."""
    table = results.measurement("signal")
    pairs = comparisons.intact_pairs(results.ablations)
    if table.empty or not pairs:
        return None
    whole = {ablation.name: other for ablation, other in pairs}

    def at(value: str, unit: Unit, of: Ablation, place: Ablation, trained: int) -> Estimate | None:
        return results.mean("signal", value, unit, of, trained=trained, **next_norm(place))

    def column(value: str, unit: Unit, trained: int, beside: bool = False) -> Column:
        return lambda ablation: at(value, unit, whole[ablation.name] if beside else ablation, ablation, trained)

    columns = {
        f"{words}{', whole' * beside}{', trained' * trained}": column(value, "number", trained, beside)
        for value, words in (("entering", "RMS"), ("jacobian", "Jacobian"))
        for trained, beside in ((0, False), (0, True), (1, False), (1, True))
    }
    caption = (
        "Root mean square of what enters the norm after the missing connections, and size of its Jacobian, before and "
        "after training: mean over seeds (t 95% interval)"
    )
    claims = []
    for ablation, other in pairs:
        if not switches.lacks_residuals(ablation):
            continue
        estimates = {
            f"{name}_{value}": at(value, "number", one, ablation, 0)
            for name, one in (("plain", ablation), ("whole", other))
            for value in ("entering", "jacobian")
        }
        if all(estimates.values()):
            claims.append(Claim("before", estimates, {"plain": ablation.name, "whole": other.name}))
    lacking = [ablation for ablation, _ in pairs]
    figure = panel_figure(
        results,
        "signal",
        "Root mean square of what enters the norm after the missing connections, along training, by ablation",
        "A line per seed.",
        lambda ablations: measured.along_training(
            pd.concat(_there(table, ablations)), ablations, "entering", label="Root mean square", log=True
        ),
        among=lacking,
    )
    return SectionContent(claims, [table_by_ablation(lacking, columns, caption)], [figure])


def next_norm(ablation: Ablation) -> dict[str, Any]:
    """Where the first norm is that finds what the last of the missing connections would have carried."""
    free, layer = ablation.model.residual_free, max(ablation.model.residual_free.layers)
    if layer not in free.mlp:
        return {"layer": layer, "sublayer": "mlp"}
    return {"layer": layer + 1, "sublayer": "attention" if layer + 1 < ablation.model.layers else "output"}


def _there(table: pd.DataFrame, ablations: Sequence[Ablation]) -> Iterator[pd.DataFrame]:
    for ablation in ablations:
        yield select_rows(table, {"ablation": ablation.name, **next_norm(ablation)})
