"""Comparison of optimizers."""

from pipeline import switches
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.section import SectionContent, difference_tables, register_section
from pipeline.reporting.experiment.task_results import TaskResults


@register_section("questions", 50, "Does the optimizer matter?", scores=[EXACT_MATCH])
def build_optimizer_section(results: TaskResults) -> SectionContent | None:
    """Build the section that compares ablations that differ only in the optimizer and its learning rate."""
    pairs = comparisons.optimizer_pairs(results.ablations)
    if not pairs:
        return None
    claims = [
        Claim(
            "answer",
            {
                "muon_converged": results.converged_runs(muon),
                "muon_steps": results.mean_steps(muon),
                "other_converged": results.converged_runs(other),
                "other_rising": results.still_rising_runs(other),
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
    return SectionContent(claims, difference_tables(results, "restricted_steps", pairs, caption))
