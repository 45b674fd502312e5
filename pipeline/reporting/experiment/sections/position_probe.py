"""Linear probe of the position from the residual stream."""

from typing import Any

from pipeline.params import Ablation
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment.comparisons import comparison_depth
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.section import (
    LINES_CAPTION,
    CellFunction,
    SectionContent,
    collect_single_layer_estimates,
    panel_figure,
    register_section,
    table_by_ablation,
)
from pipeline.reporting.experiment.task_results import TaskResults


@register_section("mechanism", 30, "Is position readable?", measurements=["position_probe"])
def build_position_probe_section(results: TaskResults) -> SectionContent | None:
    """Build the section on the position probe: R² by ablation and depth, residual-free beside intact ablations."""
    table = results.measurement_table("position_probe")
    if table.empty:
        return None

    def read_r2(ablation: Ablation, depth: int, *, trained: int = 1, **keys: Any) -> Estimate | None:
        where: dict[str, Any] = {"inputs": "random", "target": "position", "depth": depth} | keys
        return results.measured_mean("position_probe", "r2", "number", ablation, trained=trained, **where)

    def depth_column(depth: int, trained: int) -> CellFunction:
        return lambda ablation: read_r2(ablation, depth, trained=trained)

    def last_depth_column(**keys: Any) -> CellFunction:
        return lambda ablation: read_r2(ablation, ablation.model.layers, **keys)

    depths = range(int(table["depth"].max()) + 1)
    by_depth = [
        table_by_ablation(
            results.ablations, {f"Depth {depth}": depth_column(depth, trained) for depth in depths}, caption
        )
        for trained, caption in ((1, "R² of position, as trained"), (0, "R² of position, before training"))
    ]
    others = {
        "R² of distance": last_depth_column(target="distance"),
        "R² of position, task examples": last_depth_column(inputs="task"),
    }

    def read_pair_estimates(ablation: Ablation, intact: Ablation) -> dict[str, Estimate | None]:
        depth = comparison_depth(ablation)
        return {
            "lacking": read_r2(ablation, depth),
            "whole": read_r2(intact, depth),
            "lacking_before": read_r2(ablation, depth, trained=0),
            "whole_before": read_r2(intact, depth, trained=0),
            "more": results.mean_difference("position_r2", ablation, intact),
        }

    estimates, layers = collect_single_layer_estimates(results.ablations, read_pair_estimates)
    claims = [Claim("answer", estimates, {"layers": layers}, role="lead")] if layers else []
    position = table[(table["inputs"] == "random") & (table["target"] == "position")]
    figure = panel_figure(
        results,
        "position_probe",
        "R² of a linear probe for absolute position on random tokens, by depth and ablation",
        f"{LINES_CAPTION} A probe without information has 0.",
        lambda ablations: measured.draw_lines_by_ablation(
            position.assign(r2=position["r2"].clip(lower=-0.1)),
            ablations,
            "r2",
            axis_labels=("Depth (layers passed)", "R² of position, random tokens"),
            reference=(0.0, "no information"),
        ),
    )
    caption = "After the last layer, as trained"
    return SectionContent(claims, [*by_depth, table_by_ablation(results.ablations, others, caption)], [figure])
