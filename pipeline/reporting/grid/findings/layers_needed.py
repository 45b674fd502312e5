"""From which number of layers on does the causal mask tell the order?"""

from functools import partial

from pipeline import cells as grid
from pipeline.params import Cell
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.figures import outcomes
from pipeline.reporting.grid.finding import ANSWERS, Finding, by_cell, section
from pipeline.reporting.page import Figure

CURVE = 4
"""Fewer depths are no curve."""


@section("questions", 30, "How many layers does the causal mask need to tell the order?", scores=ANSWERS)
def layers_needed(evidence: Evidence) -> Finding | None:
    """Causal cells without positional encoding that differ in the number of layers alone, the shallowest first."""
    depths = sorted({cell.model.layers for cell in evidence.cells})
    by_depth = [evidence.base(positional="none", attention="causal", layers=depth)[:1] for depth in depths]
    cells = [cell for found in by_depth for cell in found]
    if len(cells) < 2:
        return None
    layers = evidence.of("layers", "count")
    learned = [cell for cell in cells if (found := evidence.converged(cell)) and found.value]
    failed = [cell for cell in cells if not learned or cell.model.layers < learned[0].model.layers]
    estimates: dict[str, Estimate | None] = {}
    for name, chosen in (("enough", learned[:1]), ("few", failed[-1:])):
        for what, say in (("layers", layers), ("converged", evidence.converged), ("rising", evidence.rising)):
            estimates[f"{name}_{what}"] = say(chosen[0]) if chosen else None
    columns = {
        "Layers": layers,
        "Converged": evidence.converged,
        "Still rising": evidence.rising,
        "Steps, mean up to the budget": evidence.steps,
        "Test exact match": evidence.exact_match,
    }
    table = by_cell(cells, columns, "Steps: mean (t 95% interval); test exact match: median (min to max) over seeds")
    kinds = _by_kind(evidence).items()
    curves = {kind: found for kind, found in kinds if len({cell.model.layers for cell in found}) >= CURVE}
    figure = Figure(
        "by_layers",
        "Steps to converge by the number of layers",
        "Mean up to the budget with its t 95% interval; how many runs converged, where not all did.",
        partial(outcomes.by_layers, evidence.tables["ablations.csv"], curves),
    )
    return Finding([Claim("answer", estimates, place="lead")], [table], [figure] if curves else [])


def _by_kind(evidence: Evidence) -> dict[str, list[Cell]]:
    """The cells that differ in nothing but their number of layers, the shallowest first, by what they are."""
    usual, kinds = grid.shared(evidence.cells), dict[str, list[Cell]]()
    for cell in sorted(evidence.cells, key=lambda cell: cell.model.layers):
        kinds.setdefault(grid.described(cell, usual | {"layers": cell.model.layers}), []).append(cell)
    return kinds
