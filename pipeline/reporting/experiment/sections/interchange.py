"""Where, by depth, does the order of two tokens lie?"""

from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.section import (
    LINES,
    SectionContent,
    depth_columns,
    panel_figure,
    section,
    table_by_ablation,
)
from pipeline.reporting.experiment.task_results import TaskResults

SETS = ("swapped pair", "rest", "last")
"""Sets of positions that part a prompt."""


@section("mechanism", 22, "Where does the order of two tokens lie?", measurements=["interchange"])
def interchange(results: TaskResults) -> SectionContent | None:
    """What the states of a prompt with two tokens swapped bring about, by depth and positions."""
    table = results.measurement("interchange")
    if table.empty:
        return None
    depths = range(int(table["depth"].max()) + 1)
    tables = [
        table_by_ablation(
            results.ablations,
            depth_columns(results, "interchange", "recovery", depths, places=places),
            f"Share of the swap brought about by the states at: {places}; mean over seeds (t 95% interval)",
        )
        for places in SETS
    ]
    claims = []
    for ablation in results.usual_ablations(positional="none", attention="causal")[:1]:
        estimates: dict[str, Estimate | None] = {
            f"{name}_{depth}": results.mean("interchange", "recovery", "number", ablation, places=places, depth=depth)
            for depth in range(1, ablation.model.layers)
            for name, places in (("pair", "swapped pair"), ("rest", "rest"), ("last", "last"))
        }
        if estimates and all(estimates.values()):
            depths_told = range(1, ablation.model.layers)
            pairs = {depth: estimates[f"pair_{depth}"] for depth in depths_told}
            estimates |= {f"depth_{depth}": results.same_row(one, "depth", "count") for depth, one in pairs.items()}
            claims.append(Claim("answer", estimates, {"ablation": ablation.name, "depths": list(depths_told)}))
    figure = panel_figure(
        results,
        "interchange",
        "Share of a swap of two tokens that the states of the swapped pair bring about, by depth and ablation",
        f"{LINES} Where it falls, order has left its place.",
        lambda ablations: measured.lines_by_ablation(
            table[table["places"] == "swapped pair"],
            ablations,
            "recovery",
            labels=("Depth (layers passed)", "Share of the swap, by the pair's states"),
        ),
    )
    return SectionContent(claims, tables, [figure])
