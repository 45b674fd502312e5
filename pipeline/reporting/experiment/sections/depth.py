"""Change of hidden states when earlier tokens are permuted, by depth: where the symmetry breaks."""

from itertools import pairwise

from pipeline.reporting.claims import Claim
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

MIN_CHANGE = 1e-6
"""A smaller relative change is rounding."""


@section("mechanism", 20, "Where in depth does the symmetry break?", measurements=["permutation_sensitivity"])
def depth(results: TaskResults) -> SectionContent | None:
    """Build the section that shows the change of the last token's state by depth, after training and over training."""
    table = results.measurement("permutation_sensitivity")
    if table.empty:
        return None
    end = int(table["position"].max())
    last = table[table["position"] == end]
    keys = ["ablation", "seed", "step", "trained", "depth"]
    others = table[table["position"] < end].groupby(keys, sort=False)[["change_of_token"]].mean().reset_index()
    deepest = last[last["depth"] == last.groupby("ablation")["depth"].transform("max")]
    figures = [
        panel_figure(
            results,
            "depth",
            "Relative change of a token's state by depth and ablation when earlier tokens are permuted",
            f"The last token's position stays, the others move (their mean). {LINES}",
            lambda ablations: measured.lines_by_ablation(
                last,
                ablations,
                "change_of_token",
                dashed=(others, "the other tokens"),
                labels=("Depth (layers passed)", "Relative change of a token's state"),
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
                lambda ablations: measured.along_training(
                    deepest, ablations, "change_of_token", label="Relative change of the last state"
                ),
            )
        )
    columns = depth_columns(
        results, "permutation_sensitivity", "change_of_token", range(int(table["depth"].max()) + 1), position=end
    )
    caption = "Change of the last token's state as trained: mean over seeds (t 95% interval)"
    return SectionContent(_answer(results, end), [table_by_ablation(results.ablations, columns, caption)], figures)


def _answer(results: TaskResults, end: int) -> list[Claim]:
    """State the first depth whose state depends on order, for the causal ablation without positional encoding."""
    for ablation in results.usual_ablations(positional="none", attention="causal")[:1]:
        changes = [
            results.mean("permutation_sensitivity", "change_of_token", "number", ablation, depth=depth, position=end)
            for depth in range(ablation.model.layers + 1)
        ]
        for before, after in pairwise(changes):
            if before and after and after.low is not None and before.value <= MIN_CHANGE < after.low:
                depths = {
                    f"depth_{name}": results.same_row(change, "depth", "count")
                    for name, change in (("before", before), ("after", after))
                }
                return [
                    Claim(
                        "answer",
                        {"before": before, "after": after, **depths},
                        {"ablation": ablation.name},
                        role="lead",
                    )
                ]
    return []
