"""Which layers' masks does the prediction feel, and what follows for the last layer?"""

from pipeline import cells as grid
from pipeline.reporting.claims import Claim
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.figures import measured
from pipeline.reporting.grid.finding import LINES, Column, Finding, by_cell, by_panel, section


@section("mechanism", 15, "Which layers' masks matter?", tells=["masks"])
def masks(evidence: Evidence) -> Finding | None:
    """What taking one layer's mask away does to the prediction, by layer."""
    table = evidence.measured("masks")
    if table.empty:
        return None
    masked = [cell for cell in evidence.cells if cell.model.attention == "causal"]

    def at(layer: int) -> Column:
        return lambda cell: evidence.mean("masks", "total_variation", "number", cell, layer=layer)

    columns = {f"Layer {layer}": at(layer) for layer in range(int(table["layer"].max()) + 1)}
    claims = []
    for cell in evidence.base(positional="none", attention="causal")[:1]:
        first, last = 0, cell.model.layers - 1
        lacking = next(iter(grid.like(evidence.cells, cell, residual_free=grid.of_layer(last))), None)
        estimates = {
            "last": evidence.mean("masks", "max_logit_change", "logit", cell, layer=last),
            "first": evidence.mean("masks", "max_logit_change", "logit", cell, layer=first),
            "converged": evidence.converged(lacking) if lacking else None,
            "rising": evidence.rising(lacking) if lacking else None,
        }
        words = {"cell": cell.name, "lacking": lacking.name if lacking else ""}
        claims.append(Claim("last_layer", estimates, words, place="lead" if lacking else ""))
    figure = by_panel(
        evidence,
        "masks",
        "Total variation of the prediction when one layer's causal mask is taken away, by layer and cell",
        f"{LINES} Nothing happens without the last layer's mask.",
        lambda cells: measured.lines(
            table,
            cells,
            "total_variation",
            along="layer",
            labels=("Layer without mask", "Change of the prediction (total variation)"),
        ),
        among=masked,
    )
    caption = "Total variation between predictions with and without the layer's mask, as trained: mean (t 95% interval)"
    return Finding(claims, [by_cell(masked, columns, caption)], [figure])
