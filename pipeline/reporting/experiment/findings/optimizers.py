"""Is the result one of the optimizer?"""

from pipeline import switches
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.finding import Finding, differences, section


@section("questions", 50, "Does the optimizer matter?", scores=[EXACT_MATCH])
def optimizers(evidence: Evidence) -> Finding | None:
    """Ablations that differ in the optimizer alone (and in its own learning rate)."""
    pairs = comparisons.optimizers(evidence.ablations)
    if not pairs:
        return None
    claims = [
        Claim(
            "answer",
            {
                "muon_converged": evidence.converged(muon),
                "muon_steps": evidence.steps(muon),
                "other_converged": evidence.converged(other),
                "other_rising": evidence.rising(other),
            },
            {
                "muon": muon.name,
                "other": other.name,
                "optimizer": switches.optimizer_in_words(other.training.optimizer),
            },
        )
        for muon, other in pairs
    ]
    caption = "Difference in steps to converge, up to the budget"
    return Finding(claims, differences(evidence, "restricted_steps", pairs, caption))
