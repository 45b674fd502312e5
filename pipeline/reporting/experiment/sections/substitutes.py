"""Substitutes for residual connections: how much of their cost each gives back."""

from functools import partial

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment import rescue
from pipeline.reporting.experiment.figures import rescue as figures
from pipeline.reporting.experiment.section import SectionContent, register_section, table_by_ablation
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure


@register_section(
    "questions",
    50,
    "What does a residual connection give: position, content, or a path to learn by?",
    scores=[EXACT_MATCH],
)
def build_substitute_section(results: TaskResults) -> SectionContent | None:
    """Build the section that compares each substituted ablation with its residual-free and intact counterparts."""
    triples = rescue.substitute_triples(results.ablations)
    if not triples:
        return None

    def read_rescue(ablation: Ablation) -> Estimate | None:
        where = {"ablation": ablation.name}
        return results.read_estimate("rescue.csv", "rescue", "ratio", where, n_column="seeds", interval="Fieller 95%")

    claims = []
    for site, name in enumerate(dict.fromkeys(triple.residual_free.name for triple in triples)):
        site_triples = [triple for triple in triples if triple.residual_free.name == name]
        residual_free, intact = site_triples[0].residual_free, site_triples[0].intact
        cost = results.mean_difference("restricted_steps", residual_free, intact)
        estimates: dict[str, Estimate | None] = {f"costs_{site}": cost}
        for index, triple in enumerate(site_triples):
            estimates[f"at_{site}_{index}_rescue"] = read_rescue(triple.substituted)
            estimates[f"at_{site}_{index}_converged"] = results.converged_runs(triple.substituted)
        words = {
            "site": site,
            "plain": residual_free.name,
            "whole": intact.name,
            "instead": [triple.substituted.model.residual_substitute for triple in site_triples],
        }
        if all(estimates.values()):
            claims.append(Claim("rescued", estimates, words, role="lead"))
    columns = {
        "What is missing": lambda ablation: switches.sublayers_in_words(ablation.model.residual_free),
        "Instead": lambda ablation: ablation.model.residual_substitute,
        "Rescue": read_rescue,
        "Converged": results.converged_runs,
        "Still rising": results.still_rising_runs,
        "Steps, mean up to the budget": results.mean_steps,
    }
    names = {ablation.name for triple in triples for ablation in (triple.substituted, triple.residual_free)}
    shown = [ablation for ablation in results.ablations if ablation.name in names]
    caption = "Rescue: 0 as without the connection, 1 as with it (Fieller 95% interval); steps: mean (t 95% interval)"
    figure = Figure(
        "rescue",
        "How much of what a missing residual connection costs its substitute gives back, by what is missing",
        "Mean over seeds with Fieller's 95% interval, cut off where it leaves the axis.",
        partial(figures.draw_rescue, results.tables["rescue.csv"], triples),
    )
    return SectionContent(claims, [table_by_ablation(shown, columns, caption)], [figure])
