"""Interchange of states between a prompt and the same prompt with two tokens swapped, by depth."""

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
from pipeline.reporting.experiment.task_results import TaskResults

POSITION_SETS = ("swapped pair", "rest", "last")
"""Names of three disjoint sets of positions, which together are the whole prompt."""


@register_section("mechanism", 22, "Where does the order of two tokens lie?", measurements=["interchange"])
def build_interchange_section(results: TaskResults) -> SectionContent | None:
    """Build the section on how far states of a prompt with two swapped tokens move the prediction, by depth."""
    table = results.measurement_table("interchange")
    if table.empty:
        return None
    depths = range(int(table["depth"].max()) + 1)
    tables = [
        table_by_ablation(
            results.ablations,
            depth_columns(results, "interchange", "recovery", depths, positions=places),
            f"Share of the swap brought about by the states at: {places}; mean over seeds (t 95% interval)",
        )
        for places in POSITION_SETS
    ]
    claims = []
    for ablation in results.usual_ablations(positional="none", attention="causal")[:1]:
        estimates: dict[str, Estimate | None] = {
            f"{name}_{depth}": results.measured_mean(
                "interchange", "recovery", "number", ablation, positions=where, depth=depth
            )
            for depth in range(1, ablation.model.layers)
            for name, where in (("pair", "swapped pair"), ("rest", "rest"), ("last", "last"))
        }
        if estimates and all(estimates.values()):
            inner_depths = range(1, ablation.model.layers)
            pairs = {depth: estimates[f"pair_{depth}"] for depth in inner_depths}
            estimates |= {
                f"depth_{depth}": results.read_same_row(pair, "depth", "count") for depth, pair in pairs.items()
            }
            claims.append(Claim("answer", estimates, {"ablation": ablation.name, "depths": list(inner_depths)}))
    figure = panel_figure(
        results,
        "interchange",
        "Share of a swap of two tokens that the states of the swapped pair bring about, by depth and ablation",
        f"{LINES_CAPTION} Where it falls, the order has moved to other positions.",
        lambda ablations: measured.draw_lines_by_ablation(
            table[table["positions"] == "swapped pair"],
            ablations,
            "recovery",
            axis_labels=("Depth (layers passed)", "Share of the swap, by the pair's states"),
        ),
    )
    return SectionContent(claims, tables, [figure])
