"""Exact match when the mean (or size) of the states no longer depends on the position."""

from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.section import (
    LINES_CAPTION,
    SectionContent,
    depth_columns,
    panel_figure,
    register_section,
    table_by_ablation,
)
from pipeline.reporting.experiment.task_results import TaskResults, rows_after_training


@register_section(
    "mechanism", 35, "Does the answer need what states say of their position?", measurements=["position_erasure"]
)
def build_erasure_section(results: TaskResults) -> SectionContent | None:
    """Build the section on exact match when the mean, or mean and size, of each position's states is erased."""
    table = results.measurement_table("position_erasure")
    if table.empty:
        return None
    depths = range(int(table["depth"].max()) + 1)
    conditions = {
        "mean_erased": "without the mean of each position",
        "size_erased": "without its size, too",
        "sham": "sham",
    }
    tables = [
        table_by_ablation(
            results.ablations,
            depth_columns(results, "position_erasure", value, depths),
            f"Exact match on validation examples, {words}; mean over seeds (t 95% interval)",
        )
        for value, words in conditions.items()
    ]
    claims = []
    for ablation in results.usual_ablations(positional="none", attention="causal")[:1]:
        inner = range(1, ablation.model.layers)
        estimates: dict[str, Estimate | None] = {
            f"{value}_{depth}": results.measured_mean("position_erasure", value, "share", ablation, depth=depth)
            for depth in inner
            for value in conditions
        }
        depth_counts = {
            f"depth_{depth}": results.read_same_row(estimates[f"sham_{depth}"], "depth", "count") for depth in inner
        }
        untouched = results.measured_mean("position_erasure", "untouched", "share", ablation, depth=0)
        if estimates and untouched and all(estimates.values()):
            words = {"ablation": ablation.name, "depths": list(inner)}
            claims.append(Claim("answer", {"untouched": untouched, **estimates, **depth_counts}, words))
    figure = panel_figure(
        results,
        "erasure",
        "Exact match when the states of every position are moved to the same mean, by depth and ablation",
        f"{LINES_CAPTION} Dashed: moved as far in a direction that means nothing.",
        lambda ablations: measured.draw_lines_by_ablation(
            rows_after_training(table),
            ablations,
            "mean_erased",
            axis_labels=("Depth (layers passed)", "Exact match, means erased"),
            dashed=(rows_after_training(table).assign(mean_erased=table["sham"]), "sham"),
        ),
    )
    return SectionContent(claims, tables, [figure])
