"""Which ablations converge without which residual connections?"""

from functools import partial

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.finding import Finding, by_ablation, by_layer, differences, section


@section("questions", 40, "What do residual connections have to do with it?", scores=[EXACT_MATCH])
def residual_connections(evidence: Evidence) -> Finding | None:
    """The ablations that lack any, and each beside the same ablation with all of them. Controls are told of apart."""
    lacking = [ablation for ablation in evidence.ablations if not switches.is_intact(ablation)]
    if not lacking:
        return None
    pairs = comparisons.wholes(evidence.ablations)
    plain = [(ablation, whole) for ablation, whole in pairs if switches.lacks_residuals(ablation)]
    single = comparisons.one_layer_each(evidence.ablations)
    estimates, layers = by_layer(evidence.ablations, partial(_about, evidence), optional=("p", "log_rank", "rising"))
    claims = [Claim("by_layer", estimates, {"layers": layers}, place="lead")] if layers else []
    claims += [_one(evidence, *pair) for pair in plain if pair not in single]
    usual = switches.common_values(evidence.ablations)
    columns = {
        "What is missing": lambda ablation: switches.sublayers_in_words(ablation.model.residual_free),
        "Otherwise": lambda ablation: switches.describe(
            ablation, usual | {"residual_free": ablation.model.residual_free}
        ),
        "Converged": evidence.converged,
        "Still rising": evidence.rising,
        "Steps, mean up to the budget": evidence.steps,
        "Test exact match": evidence.exact_match,
    }
    than = "than the same ablation with every residual connection"
    compared = [
        *differences(evidence, "restricted_steps", pairs, f"More steps to converge {than}, up to the budget"),
        *differences(evidence, "test_exact_match", pairs, f"More test exact match {than}, percentage points"),
    ]
    caption = "Steps: mean (t 95% interval); test: median (min to max) over seeds"
    return Finding(claims, [by_ablation(lacking, columns, caption), *compared])


def _about(evidence: Evidence, ablation: Ablation, whole: Ablation) -> dict[str, Estimate | None]:
    more = evidence.compared("restricted_steps", ablation, whole)
    return {
        "more": more,
        "p": evidence.decided(more),
        "log_rank": evidence.log_rank(more),
        "converged": evidence.converged(ablation),
        "rising": evidence.rising(ablation),
    }


def _one(evidence: Evidence, ablation: Ablation, whole: Ablation) -> Claim:
    return Claim("lacking", _about(evidence, ablation, whole), {"ablation": ablation.name, "whole": whole.name})
