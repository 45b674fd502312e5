"""Effect of permuting the tokens of a layer's causal mask."""

from functools import partial

from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.section import (
    DOTS_CAPTION,
    CellFunction,
    SectionContent,
    register_section,
    table_by_ablation,
)
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure


@register_section("mechanism", 17, "In which layers does the mask's order matter?", measurements=["mask_permutation"])
def build_mask_order_section(results: TaskResults) -> SectionContent | None:
    """Build the section on the exact match that is lost when the mask of one layer, or of all, is permuted."""
    table = results.measurement_table("mask_permutation")
    if table.empty:
        return None
    causal = [ablation for ablation in results.ablations if ablation.model.attention == "causal"]

    def loss_column(layers: str) -> CellFunction:
        return lambda ablation: results.measured_mean(
            "mask_permutation", "exact_match_lost", "points", ablation, layers=layers
        )

    layer_names = list(dict.fromkeys(table["layers"].astype(str)))
    columns = {("All layers" if name == "all" else f"Layer {name}"): loss_column(name) for name in layer_names}
    estimates: dict[str, Estimate | None] = {}
    for positional in ("none", "learned"):
        for ablation in results.usual_ablations(positional=positional, attention="causal")[:1]:
            last = ablation.model.layers - 1
            layers = {"first": "0", "last": str(last), "all": "all"} | ({"second": "1"} if last > 1 else {})
            losses = {name: loss_column(masks)(ablation) for name, masks in layers.items()}
            estimates |= {f"{positional}_{name}": loss for name, loss in losses.items() if not isinstance(loss, str)}
    claims = [Claim("answer", estimates)] if len(estimates) >= 6 and all(estimates.values()) else []
    of_first = table[table["layers"].astype(str) == "0"]
    figure = Figure(
        "mask_order",
        "Total variation of the prediction when the first layer's mask is permuted, by ablation",
        DOTS_CAPTION,
        partial(
            measured.draw_dots_by_ablation, of_first, causal, "total_variation",
            axis_label="Change of the prediction (total variation), first layer's mask permuted",
        ),
    )  # fmt: skip
    caption = "Exact match lost, percentage points, by the layers whose mask is permuted: mean (t 95% interval)"
    return SectionContent(claims, [table_by_ablation(causal, columns, caption)], [figure])
