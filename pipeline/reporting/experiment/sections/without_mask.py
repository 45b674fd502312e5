"""What is left without the causal mask?"""

from pipeline import switches
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment.section import SectionContent, section
from pipeline.reporting.experiment.task_results import TaskResults


@section("questions", 20, "What is left without the causal mask?", scores=[EXACT_MATCH])
def without_mask(results: TaskResults) -> SectionContent | None:
    """The ablations with full attention, without positional encoding and with a learned one."""
    full = results.usual_ablations(attention="full")
    bare, learned = (switches.ablations_with(full, positional=positional)[:1] for positional in ("none", "learned"))
    if not bare:
        return None
    ceiling = results.ablation_column("order_blind_ceiling", "share")(bare[0])
    p = results.ablation_column("ceiling_p_value", "p")(bare[0])
    estimates = {
        "converged": results.converged(bare[0]),
        "exact": results.exact_match(bare[0]),
        "ceiling": ceiling,
        "learned_converged": results.converged(learned[0]) if learned else None,
        "learned_exact": results.exact_match(learned[0]) if learned else None,
    }
    claims = [Claim("answer", estimates, role="lead")]
    return SectionContent([*claims, Claim("ceiling", {"ceiling": ceiling, "p": p})] if p else claims)
