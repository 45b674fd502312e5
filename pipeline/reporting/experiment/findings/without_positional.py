"""Does a decoder without positional encoding learn the task at all, and what does it save and cost?"""

from functools import partial

from pipeline import switches
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.figures import outcomes
from pipeline.reporting.experiment.finding import Column, Finding, by_ablation, by_panel, differences, section


@section(
    "questions",
    10,
    "Does a causal decoder without positional encoding learn the task?",
    tells=["cost"],
    scores=[EXACT_MATCH],
)
def without_positional(evidence: Evidence) -> Finding | None:
    """Ablations of the usual size without and with positional encoding, in outcome, steps and cost."""
    causal = evidence.base(attention="causal")
    bare, learned = (switches.ablations_with(causal, positional=name)[:1] for name in ("none", "learned"))
    if not bare:
        return None
    later = evidence.compared("restricted_steps", bare[0], learned[0]) if learned else None
    said = {
        "bare_converged": evidence.converged(bare[0]),
        "bare_steps": evidence.steps(bare[0]),
        "learned_converged": evidence.converged(learned[0]) if learned else None,
        "learned_steps": evidence.steps(learned[0]) if learned else None,
        "later": later,
        "p": evidence.decided(later),
        "log_rank": evidence.log_rank(later),
    }
    parameters = evidence.of("parameters", "count")
    claims = [Claim("answer", said, place="lead")]
    if learned:
        claims.append(Claim("price", {"bare": parameters(bare[0]), "learned": parameters(learned[0])}))
    columns: dict[str, Column] = {
        "Parameters": parameters,
        "FLOPs per step": evidence.of("flops_per_step", "flops"),
        "Converged": evidence.converged,
        "Steps, mean up to the budget": evidence.steps,
        "FLOPs spent": evidence.of("flops_spent", "flops"),
    }
    every = [*comparisons.encodings(evidence), *comparisons.choices(evidence)]
    pairs = list({(one.name, other.name): (one, other) for one, other in every}.values())
    tables = [
        *differences(evidence, "restricted_steps", pairs, "Difference in steps to converge, up to the budget"),
        *differences(evidence, "test_exact_match", pairs, "Difference in test exact match, percentage points"),
        by_ablation(evidence.ablations, columns, "Means over seeds (steps: t 95% interval)"),
    ]
    figure = by_panel(
        evidence,
        "not_yet_converged",
        "Share of runs not yet converged by step, a panel per ablation",
        "Kaplan-Meier estimate over the seeds of each ablation.",
        partial(outcomes.not_yet_converged, evidence.runs),
    )
    return Finding(claims, tables, [figure])
