"""In which layers does the order of the causal mask matter?"""

from functools import partial

from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.section import DOTS, Column, SectionContent, section, table_by_ablation
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure


@section("mechanism", 17, "In which layers does the mask's order matter?", measurements=["mask_order"])
def mask_order(results: TaskResults) -> SectionContent | None:
    """What it costs that one layer's mask, or all, is told another order of the tokens."""
    table = results.measurement("mask_order")
    if table.empty:
        return None
    masked = [ablation for ablation in results.ablations if ablation.model.attention == "causal"]

    def lost(layers: str) -> Column:
        return lambda ablation: results.mean("mask_order", "exact_match_lost", "points", ablation, layers=layers)

    found = list(dict.fromkeys(table["layers"].astype(str)))
    columns = {("All layers" if name == "all" else f"Layer {name}"): lost(name) for name in found}
    estimates: dict[str, Estimate | None] = {}
    for kind in ("none", "learned"):
        for ablation in results.usual_ablations(positional=kind, attention="causal")[:1]:
            last = ablation.model.layers - 1
            layers = {"first": "0", "last": str(last), "all": "all"} | ({"second": "1"} if last > 1 else {})
            said = {name: lost(masks)(ablation) for name, masks in layers.items()}
            estimates |= {f"{kind}_{name}": one for name, one in said.items() if not isinstance(one, str)}
    claims = [Claim("answer", estimates)] if len(estimates) >= 6 and all(estimates.values()) else []
    of_first = table[table["layers"].astype(str) == "0"]
    figure = Figure(
        "mask_order",
        "Total variation of the prediction when the tokens of the first layer's mask are reordered, by ablation",
        DOTS,
        partial(
            measured.dots_by_ablation, of_first, masked, "total_variation",
            label="Change of the prediction (total variation), first layer's mask in another order",
        ),
    )  # fmt: skip
    caption = "Exact match lost, percentage points, by the layers whose mask is in another order: mean (t 95% interval)"
    return SectionContent(claims, [table_by_ablation(masked, columns, caption)], [figure])
