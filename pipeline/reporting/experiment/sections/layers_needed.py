"""From which number of layers on does the causal mask tell the order?"""

from functools import partial

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment.figures import outcomes
from pipeline.reporting.experiment.section import SectionContent, section, table_by_ablation
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure

CURVE = 4
"""Fewer depths are no curve."""


@section("questions", 30, "How many layers does the causal mask need to tell the order?", scores=[EXACT_MATCH])
def layers_needed(results: TaskResults) -> SectionContent | None:
    """Causal ablations without positional encoding that differ in the number of layers alone, the shallowest first."""
    depths = sorted({ablation.model.layers for ablation in results.ablations})
    by_depth = [results.usual_ablations(positional="none", attention="causal", layers=depth)[:1] for depth in depths]
    ablations = [ablation for found in by_depth for ablation in found]
    if len(ablations) < 2:
        return None
    layers = results.ablation_column("layers", "count")
    learned = [ablation for ablation in ablations if (found := results.converged(ablation)) and found.value]
    failed = [ablation for ablation in ablations if not learned or ablation.model.layers < learned[0].model.layers]
    estimates: dict[str, Estimate | None] = {}
    for name, chosen in (("enough", learned[:1]), ("few", failed[-1:])):
        for what, say in (("layers", layers), ("converged", results.converged), ("rising", results.still_rising)):
            estimates[f"{name}_{what}"] = say(chosen[0]) if chosen else None
    columns = {
        "Layers": layers,
        "Converged": results.converged,
        "Still rising": results.still_rising,
        "Steps, mean up to the budget": results.steps,
        "Test exact match": results.exact_match,
    }
    table = table_by_ablation(
        ablations, columns, "Steps: mean (t 95% interval); test exact match: median (min to max) over seeds"
    )
    kinds = _by_kind(results).items()
    curves = {kind: found for kind, found in kinds if len({ablation.model.layers for ablation in found}) >= CURVE}
    figure = Figure(
        "by_layers",
        "Steps to converge by the number of layers",
        "Mean up to the budget with its t 95% interval; how many runs converged, where not all did.",
        partial(outcomes.by_layers, results.tables["ablations.csv"], curves),
    )
    return SectionContent([Claim("answer", estimates, role="lead")], [table], [figure] if curves else [])


def _by_kind(results: TaskResults) -> dict[str, list[Ablation]]:
    """The ablations that differ in nothing but their number of layers, the shallowest first, by what they are."""
    usual, kinds = switches.common_values(results.ablations), dict[str, list[Ablation]]()
    for ablation in sorted(results.ablations, key=lambda ablation: ablation.model.layers):
        kinds.setdefault(switches.describe(ablation, usual | {"layers": ablation.model.layers}), []).append(ablation)
    return kinds
