"""What is left without the causal mask?"""

from pipeline import switches
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.finding import Finding, section


@section("questions", 20, "What is left without the causal mask?", scores=[EXACT_MATCH])
def without_mask(evidence: Evidence) -> Finding | None:
    """The ablations with full attention, without positional encoding and with a learned one."""
    full = evidence.base(attention="full")
    bare, learned = (switches.ablations_with(full, positional=positional)[:1] for positional in ("none", "learned"))
    if not bare:
        return None
    ceiling = evidence.of("order_blind_ceiling", "share")(bare[0])
    p = evidence.of("ceiling_p_value", "p")(bare[0])
    estimates = {
        "converged": evidence.converged(bare[0]),
        "exact": evidence.exact_match(bare[0]),
        "ceiling": ceiling,
        "learned_converged": evidence.converged(learned[0]) if learned else None,
        "learned_exact": evidence.exact_match(learned[0]) if learned else None,
    }
    claims = [Claim("answer", estimates, place="lead")]
    return Finding([*claims, Claim("ceiling", {"ceiling": ceiling, "p": p})] if p else claims)
