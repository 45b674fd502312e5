"""Full attention: results without the causal mask."""

from pipeline import switches
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment.section import SectionContent, register_section
from pipeline.reporting.experiment.task_results import TaskResults


@register_section("questions", 20, "What is left without the causal mask?", scores=[EXACT_MATCH])
def build_full_attention_section(results: TaskResults) -> SectionContent | None:
    """Build the section on full attention: without positional encoding, with it, and the order-blind ceiling."""
    full = results.usual_ablations(attention="full")
    without = next(iter(switches.select_ablations(full, positional="none")), None)
    learned = next(iter(switches.select_ablations(full, positional="learned")), None)
    if without is None:
        return None
    ceiling = results.column_reader("order_blind_ceiling", "share")(without)
    p = results.column_reader("ceiling_p_value", "p")(without)
    estimates = {
        "converged": results.converged_runs(without),
        "exact": results.median_exact_match(without),
        "ceiling": ceiling,
        "learned_converged": results.converged_runs(learned) if learned else None,
        "learned_exact": results.median_exact_match(learned) if learned else None,
    }
    claims = [Claim("answer", estimates, role="lead")]
    return SectionContent([*claims, Claim("ceiling", {"ceiling": ceiling, "p": p})] if p else claims)
