"""Which layers' masks does the prediction feel, and what follows for the last layer?"""

from pipeline import switches
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.finding import LINES, Column, Finding, by_ablation, by_panel, section


@section("mechanism", 15, "Which layers' masks matter?", tells=["masks"])
def masks(evidence: Evidence) -> Finding | None:
    """What taking one layer's mask away does to the prediction, by layer."""
    table = evidence.measured("masks")
    if table.empty:
        return None
    masked = [ablation for ablation in evidence.ablations if ablation.model.attention == "causal"]

    def at(layer: int) -> Column:
        return lambda ablation: evidence.mean("masks", "total_variation", "number", ablation, layer=layer)

    columns = {f"Layer {layer}": at(layer) for layer in range(int(table["layer"].max()) + 1)}
    claims = []
    for ablation in evidence.base(positional="none", attention="causal")[:1]:
        first, last = 0, ablation.model.layers - 1
        lacking = next(
            iter(switches.ablations_like(evidence.ablations, ablation, residual_free=switches.both_sublayers(last))),
            None,
        )
        estimates = {
            "last": evidence.mean("masks", "max_logit_change", "logit", ablation, layer=last),
            "first": evidence.mean("masks", "max_logit_change", "logit", ablation, layer=first),
            "converged": evidence.converged(lacking) if lacking else None,
            "rising": evidence.rising(lacking) if lacking else None,
        }
        words = {"ablation": ablation.name, "lacking": lacking.name if lacking else ""}
        claims.append(Claim("last_layer", estimates, words, place="lead" if lacking else ""))
    figure = by_panel(
        evidence,
        "masks",
        "Total variation of the prediction when one layer's causal mask is taken away, by layer and ablation",
        f"{LINES} Nothing happens without the last layer's mask.",
        lambda ablations: measured.lines(
            table,
            ablations,
            "total_variation",
            along="layer",
            labels=("Layer without mask", "Change of the prediction (total variation)"),
        ),
        among=masked,
    )
    caption = "Total variation between predictions with and without the layer's mask, as trained: mean (t 95% interval)"
    return Finding(claims, [by_ablation(masked, columns, caption)], [figure])
