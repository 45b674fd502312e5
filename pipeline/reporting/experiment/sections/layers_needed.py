"""Number of layers from which on a causal mask gives the order."""

from functools import partial

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment.figures import outcomes
from pipeline.reporting.experiment.section import SectionContent, register_section, table_by_ablation
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure

MIN_DEPTHS_OF_CURVE = 4
"""Smallest number of different depths for which a curve over the number of layers is drawn."""


@register_section("questions", 30, "How many layers does the causal mask need to tell the order?", scores=[EXACT_MATCH])
def build_layer_section(results: TaskResults) -> SectionContent | None:
    """Build the section on causal ablations without positional encoding that differ only in the number of layers."""
    depths = sorted({ablation.model.layers for ablation in results.ablations})
    by_depth = [results.usual_ablations(positional="none", attention="causal", layers=depth)[:1] for depth in depths]
    ablations = [ablation for of_depth in by_depth for ablation in of_depth]
    if len(ablations) < 2:
        return None
    layers = results.column_reader("layers", "count")
    learned = [ablation for ablation in ablations if (count := results.converged_runs(ablation)) and count.value]
    failed = [ablation for ablation in ablations if not learned or ablation.model.layers < learned[0].model.layers]
    quantities = {"layers": layers, "converged": results.converged_runs, "rising": results.still_rising_runs}
    estimates: dict[str, Estimate | None] = {}
    for name, chosen in (("enough", learned[:1]), ("few", failed[-1:])):
        for quantity, read in quantities.items():
            estimates[f"{name}_{quantity}"] = read(chosen[0]) if chosen else None
    columns = {
        "Layers": layers,
        "Converged": results.converged_runs,
        "Still rising": results.still_rising_runs,
        "Steps, mean up to the budget": results.mean_steps,
        "Test exact match": results.median_exact_match,
    }
    table = table_by_ablation(
        ablations, columns, "Steps: mean (t 95% interval); test exact match: median (min to max) over seeds"
    )
    kinds = _ablations_by_kind(results)
    curves = {
        kind: group
        for kind, group in kinds.items()
        if len({ablation.model.layers for ablation in group}) >= MIN_DEPTHS_OF_CURVE
    }
    figure = Figure(
        "by_layers",
        "Steps to converge by the number of layers",
        "Mean up to the budget with its t 95% interval; how many runs converged, where not all did.",
        partial(outcomes.draw_steps_by_layers, results.tables["ablations.csv"], curves),
    )
    return SectionContent([Claim("answer", estimates, role="lead")], [table], [figure] if curves else [])


def _ablations_by_kind(results: TaskResults) -> dict[str, list[Ablation]]:
    """Group ablations that differ only in their number of layers: description -> ablations by number of layers."""
    usual, kinds = switches.find_unmentioned_values(results.ablations), dict[str, list[Ablation]]()
    for ablation in sorted(results.ablations, key=lambda ablation: ablation.model.layers):
        kinds.setdefault(switches.describe_ablation(ablation, usual | {"layers": ablation.model.layers}), []).append(
            ablation
        )
    return kinds
