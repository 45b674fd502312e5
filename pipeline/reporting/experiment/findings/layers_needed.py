"""From which number of layers on does the causal mask tell the order?"""

from functools import partial

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.figures import outcomes
from pipeline.reporting.experiment.finding import Finding, by_ablation, section
from pipeline.reporting.page import Figure

CURVE = 4
"""Fewer depths are no curve."""


@section("questions", 30, "How many layers does the causal mask need to tell the order?", scores=[EXACT_MATCH])
def layers_needed(evidence: Evidence) -> Finding | None:
    """Causal ablations without positional encoding that differ in the number of layers alone, the shallowest first."""
    depths = sorted({ablation.model.layers for ablation in evidence.ablations})
    by_depth = [evidence.base(positional="none", attention="causal", layers=depth)[:1] for depth in depths]
    ablations = [ablation for found in by_depth for ablation in found]
    if len(ablations) < 2:
        return None
    layers = evidence.of("layers", "count")
    learned = [ablation for ablation in ablations if (found := evidence.converged(ablation)) and found.value]
    failed = [ablation for ablation in ablations if not learned or ablation.model.layers < learned[0].model.layers]
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
    table = by_ablation(
        ablations, columns, "Steps: mean (t 95% interval); test exact match: median (min to max) over seeds"
    )
    kinds = _by_kind(evidence).items()
    curves = {kind: found for kind, found in kinds if len({ablation.model.layers for ablation in found}) >= CURVE}
    figure = Figure(
        "by_layers",
        "Steps to converge by the number of layers",
        "Mean up to the budget with its t 95% interval; how many runs converged, where not all did.",
        partial(outcomes.by_layers, evidence.tables["ablations.csv"], curves),
    )
    return Finding([Claim("answer", estimates, place="lead")], [table], [figure] if curves else [])


def _by_kind(evidence: Evidence) -> dict[str, list[Ablation]]:
    """The ablations that differ in nothing but their number of layers, the shallowest first, by what they are."""
    usual, kinds = switches.common_values(evidence.ablations), dict[str, list[Ablation]]()
    for ablation in sorted(evidence.ablations, key=lambda ablation: ablation.model.layers):
        kinds.setdefault(switches.describe(ablation, usual | {"layers": ablation.model.layers}), []).append(ablation)
    return kinds
