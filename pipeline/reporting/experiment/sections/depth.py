"""Change of hidden states when earlier tokens are permuted, by depth: where the symmetry breaks."""

from itertools import pairwise

from pipeline.reporting.claims import Claim
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

ROUNDING_LIMIT = 1e-6
"""Relative change of a hidden state up to which it counts as rounding."""


@register_section("mechanism", 20, "Where in depth does the symmetry break?", measurements=["permutation_sensitivity"])
def build_depth_section(results: TaskResults) -> SectionContent | None:
    """Build the section on the change of the last token's state by depth when earlier tokens are permuted."""
    table = results.measurement_table("permutation_sensitivity")
    if table.empty:
        return None
    last_position = int(table["position"].max())
    last = table[table["position"] == last_position]
    keys = ["ablation", "seed", "step", "trained", "depth"]
    others = (
        table[table["position"] < last_position].groupby(keys, sort=False)[["change_of_token"]].mean().reset_index()
    )
    deepest = last[last["depth"] == last.groupby("ablation")["depth"].transform("max")]
    figures = [
        panel_figure(
            results,
            "depth",
            "Relative change of a token's state by depth and ablation when earlier tokens are permuted",
            f"The last token's position stays, the others move (their mean). {LINES_CAPTION}",
            lambda ablations: measured.draw_lines_by_ablation(
                last,
                ablations,
                "change_of_token",
                dashed=(others, "the other tokens"),
                axis_labels=("Depth (layers passed)", "Relative change of a token's state"),
            ),
        )
    ]
    if ((table["step"] > 0) & (table["trained"] == 0)).any():
        figures.append(
            panel_figure(
                results,
                "depth_along_training",
                "Relative change of the last state over training steps, by ablation",
                "The last token after the last layer, a line per seed; the first point is before training.",
                lambda ablations: measured.draw_lines_along_training(
                    deepest, ablations, "change_of_token", axis_label="Relative change of the last state"
                ),
            )
        )
    depths = range(int(table["depth"].max()) + 1)
    columns = depth_columns(results, "permutation_sensitivity", "change_of_token", depths, position=last_position)
    caption = "Change of the last token's state as trained: mean over seeds (t 95% interval)"
    claims = _answer_claims(results, last_position)
    return SectionContent(claims, [table_by_ablation(results.ablations, columns, caption)], figures)


def _answer_claims(results: TaskResults, last_position: int) -> list[Claim]:
    """Return a claim about the first depth at which the last token's state depends on order, without encoding."""
    for ablation in results.usual_ablations(positional="none", attention="causal")[:1]:
        changes = [
            results.measured_mean(
                "permutation_sensitivity", "change_of_token", "number", ablation, depth=depth, position=last_position
            )
            for depth in range(ablation.model.layers + 1)
        ]
        for before, after in pairwise(changes):
            if before and after and after.low is not None and before.value <= ROUNDING_LIMIT < after.low:
                depths = {
                    f"depth_{name}": results.read_same_row(change, "depth", "count")
                    for name, change in (("before", before), ("after", after))
                }
                estimates = {"before": before, "after": after, **depths}
                return [Claim("answer", estimates, {"ablation": ablation.name}, role="lead")]
    return []
