"""Does a residual-free ablation fail because position is lost, or because it is hard to train? A start that keeps scale."""

from pipeline import switches
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.finding import ANSWERS, Column, Finding, by_ablation, differences, section


@section("mechanism", 60, "Or is it only trainability?", tells=["effective_rank"], scores=ANSWERS)
def trainability(evidence: Evidence) -> Finding | None:
    """Each residual-free ablation beside its control, and what rank every one starts with."""
    if all(map(switches.is_intact, evidence.ablations)):
        return None
    pairs = comparisons.controls(evidence.ablations)
    claims = []
    for control, plain in pairs:
        more = evidence.compared("restricted_steps", control, plain)
        estimates = {
            "plain": evidence.converged(plain),
            "control": evidence.converged(control),
            "rising": evidence.rising(control),
            "more": more,
            "p": evidence.decided(more),
            "log_rank": evidence.log_rank(more),
        }
        claims.append(Claim("control", estimates, {"ablation": plain.name, "same": control.name}))
    compared = comparisons.wholes(evidence.ablations)
    counterpart = {ablation.name: whole for ablation, whole in compared}

    def rank(trained: int) -> Column:
        return lambda ablation: evidence.mean(
            "effective_rank", "effective_rank", "ratio", ablation, trained=trained, depth=ablation.model.layers
        )

    columns = {
        "Rank": rank(0),
        "Rank, whole": lambda ablation: rank(0)(counterpart[ablation.name]),
        "Rank, trained": rank(1),
    }
    caption = "Effective rank after the last layer, before training: mean over seeds (t 95% interval)"
    tables = [
        *differences(
            evidence, "restricted_steps", pairs, "Control less plain ablation: steps to converge, up to the budget"
        ),
        by_ablation([ablation for ablation, _ in compared], columns, caption),
    ]
    return Finding(claims, [table for table in tables if table.rows])
