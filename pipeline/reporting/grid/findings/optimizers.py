"""Is the result one of the optimizer?"""

from pipeline import cells as grid
from pipeline.reporting.claims import Claim
from pipeline.reporting.grid import comparisons
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.finding import ANSWERS, Finding, differences, section


@section("questions", 50, "Does the optimizer matter?", scores=ANSWERS)
def optimizers(evidence: Evidence) -> Finding | None:
    """Cells that differ in the optimizer alone (and in its own learning rate)."""
    pairs = comparisons.optimizers(evidence.cells)
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
            {"muon": muon.name, "other": other.name, "optimizer": grid.optimizer(other.training.optimizer)},
        )
        for muon, other in pairs
    ]
    caption = "Difference in steps to converge, up to the budget"
    return Finding(claims, differences(evidence, "restricted_steps", pairs, caption))
