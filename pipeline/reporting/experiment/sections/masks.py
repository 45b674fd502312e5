"""Effect of removing the causal mask of one layer."""

from pipeline import switches
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.section import (
    LINES_CAPTION,
    CellFunction,
    SectionContent,
    panel_figure,
    register_section,
    table_by_ablation,
)
from pipeline.reporting.experiment.task_results import TaskResults


@register_section("mechanism", 15, "Which layers' masks matter?", measurements=["mask_removal"])
def build_mask_section(results: TaskResults) -> SectionContent | None:
    """Build the section on how much the prediction changes when the causal mask of one layer is removed."""
    table = results.measurement_table("mask_removal")
    if table.empty:
        return None
    causal = [ablation for ablation in results.ablations if ablation.model.attention == "causal"]

    def layer_column(layer: int) -> CellFunction:
        return lambda ablation: results.measured_mean(
            "mask_removal", "total_variation", "number", ablation, layer=layer
        )

    columns = {f"Layer {layer}": layer_column(layer) for layer in range(int(table["layer"].max()) + 1)}
    claims = []
    for ablation in results.usual_ablations(positional="none", attention="causal")[:1]:
        last = ablation.model.layers - 1
        without_last = switches.both_sublayers(last)
        alike = switches.select_variants(results.ablations, ablation, residual_free=without_last)
        residual_free = alike[0] if alike else None
        estimates = {
            "last": results.measured_mean("mask_removal", "max_logit_change", "logit", ablation, layer=last),
            "first": results.measured_mean("mask_removal", "max_logit_change", "logit", ablation, layer=0),
            "converged": results.converged_runs(residual_free) if residual_free else None,
            "rising": results.still_rising_runs(residual_free) if residual_free else None,
        }
        words = {"ablation": ablation.name, "lacking": residual_free.name if residual_free else ""}
        claims.append(Claim("last_layer", estimates, words, role="lead" if residual_free else ""))
    figure = panel_figure(
        results,
        "masks",
        "Total variation of the prediction when one layer's causal mask is removed, by layer and ablation",
        f"{LINES_CAPTION} Removing the last layer's mask changes nothing.",
        lambda ablations: measured.draw_lines_by_ablation(
            table,
            ablations,
            "total_variation",
            x_column="layer",
            axis_labels=("Layer without mask", "Change of the prediction (total variation)"),
        ),
        candidates=causal,
    )
    caption = "Total variation between predictions with and without the layer's mask, as trained: mean (t 95% interval)"
    return SectionContent(claims, [table_by_ablation(causal, columns, caption)], [figure])
