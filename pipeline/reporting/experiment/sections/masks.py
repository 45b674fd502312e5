"""Which layers' masks does the prediction feel, and what follows for the last layer?"""

from pipeline import switches
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.section import (
    LINES,
    Column,
    SectionContent,
    panel_figure,
    section,
    table_by_ablation,
)
from pipeline.reporting.experiment.task_results import TaskResults


@section("mechanism", 15, "Which layers' masks matter?", measurements=["masks"])
def masks(results: TaskResults) -> SectionContent | None:
    """What taking one layer's mask away does to the prediction, by layer."""
    table = results.measurement("masks")
    if table.empty:
        return None
    masked = [ablation for ablation in results.ablations if ablation.model.attention == "causal"]

    def at(layer: int) -> Column:
        return lambda ablation: results.mean("masks", "total_variation", "number", ablation, layer=layer)

    columns = {f"Layer {layer}": at(layer) for layer in range(int(table["layer"].max()) + 1)}
    claims = []
    for ablation in results.usual_ablations(positional="none", attention="causal")[:1]:
        first, last = 0, ablation.model.layers - 1
        lacking = next(
            iter(switches.ablations_like(results.ablations, ablation, residual_free=switches.both_sublayers(last))),
            None,
        )
        estimates = {
            "last": results.mean("masks", "max_logit_change", "logit", ablation, layer=last),
            "first": results.mean("masks", "max_logit_change", "logit", ablation, layer=first),
            "converged": results.converged(lacking) if lacking else None,
            "rising": results.still_rising(lacking) if lacking else None,
        }
        words = {"ablation": ablation.name, "lacking": lacking.name if lacking else ""}
        claims.append(Claim("last_layer", estimates, words, role="lead" if lacking else ""))
    figure = panel_figure(
        results,
        "masks",
        "Total variation of the prediction when one layer's causal mask is taken away, by layer and ablation",
        f"{LINES} Nothing happens without the last layer's mask.",
        lambda ablations: measured.lines_by_ablation(
            table,
            ablations,
            "total_variation",
            along="layer",
            labels=("Layer without mask", "Change of the prediction (total variation)"),
        ),
        among=masked,
    )
    caption = "Total variation between predictions with and without the layer's mask, as trained: mean (t 95% interval)"
    return SectionContent(claims, [table_by_ablation(masked, columns, caption)], [figure])
