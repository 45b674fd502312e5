"""Linear probe of the position from the residual stream."""

from typing import Any

from pipeline.params import Ablation
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment.comparisons import comparison_depth
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.section import (
    LINES,
    Column,
    SectionContent,
    panel_figure,
    section,
    single_layer_estimates,
    table_by_ablation,
)
from pipeline.reporting.experiment.task_results import TaskResults


@section("mechanism", 30, "Is position readable?", measurements=["position_probe"])
def position_probe(results: TaskResults) -> SectionContent | None:
    """Build the section on the position probe: R² by ablation and depth, residual-free beside intact ablations."""
    table = results.measurement("position_probe")
    if table.empty:
        return None

    def r2(ablation: Ablation, depth: int, *, trained: int = 1, **keys: Any) -> Estimate | None:
        where: dict[str, Any] = {"inputs": "random", "target": "position", "depth": depth} | keys
        return results.mean("position_probe", "r2", "number", ablation, trained=trained, **where)

    def at(depth: int, trained: int) -> Column:
        return lambda ablation: r2(ablation, depth, trained=trained)

    def last(**keys: Any) -> Column:
        return lambda ablation: r2(ablation, ablation.model.layers, **keys)

    depths = range(int(table["depth"].max()) + 1)
    by_depth = [
        table_by_ablation(results.ablations, {f"Depth {depth}": at(depth, trained) for depth in depths}, caption)
        for trained, caption in ((1, "R² of position, as trained"), (0, "R² of position, before training"))
    ]
    others = {"R² of distance": last(target="distance"), "R² of position, task examples": last(inputs="task")}

    def compare(ablation: Ablation, intact: Ablation) -> dict[str, Estimate | None]:
        depth = comparison_depth(ablation)
        return {
            "lacking": r2(ablation, depth),
            "whole": r2(intact, depth),
            "lacking_before": r2(ablation, depth, trained=0),
            "whole_before": r2(intact, depth, trained=0),
            "more": results.compared("position_r2", ablation, intact),
        }

    estimates, layers = single_layer_estimates(results.ablations, compare)
    claims = [Claim("answer", estimates, {"layers": layers}, role="lead")] if layers else []
    position = table[(table["inputs"] == "random") & (table["target"] == "position")]
    figure = panel_figure(
        results,
        "position_probe",
        "R² of a linear probe for absolute position on random tokens, by depth and ablation",
        f"{LINES} A probe without information has 0.",
        lambda ablations: measured.lines_by_ablation(
            position.assign(r2=position["r2"].clip(lower=-0.1)),
            ablations,
            "r2",
            labels=("Depth (layers passed)", "R² of position, random tokens"),
            reference=(0.0, "no information"),
        ),
    )
    caption = "After the last layer, as trained"
    return SectionContent(claims, [*by_depth, table_by_ablation(results.ablations, others, caption)], [figure])
