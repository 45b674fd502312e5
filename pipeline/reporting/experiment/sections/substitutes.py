"""What gives back what a residual connection carries: content, position, scale, or the path of the gradient?"""

from functools import partial

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment import rescue
from pipeline.reporting.experiment.figures import rescue as drawn
from pipeline.reporting.experiment.section import SectionContent, section, table_by_ablation
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure


@section(
    "questions",
    50,
    "What does a residual connection give: position, content, or a path to learn by?",
    scores=[EXACT_MATCH],
)
def substitutes(results: TaskResults) -> SectionContent | None:
    """Each ablation with a substitute beside the same ablation without one and the one with the connection itself."""
    trios = rescue.substitute_triples(results.ablations)
    if not trios:
        return None

    def rescued(ablation: Ablation) -> Estimate | None:
        where = {"ablation": ablation.name}
        return results.estimate("rescue.csv", "rescue", "ratio", where, n="seeds", interval="Fieller 95%")

    claims = []
    for site, plain in enumerate(dict.fromkeys(one.residual_free.name for one in trios)):
        of_site = [one for one in trios if one.residual_free.name == plain]
        cost = results.compared("restricted_steps", of_site[0].residual_free, of_site[0].intact)
        estimates: dict[str, Estimate | None] = {f"costs_{site}": cost}
        for place, one in enumerate(of_site):
            name, ablation = f"at_{site}_{place}", one.substituted
            estimates |= {f"{name}_rescue": rescued(ablation), f"{name}_converged": results.converged(ablation)}
        words = {
            "site": site,
            "plain": plain,
            "whole": of_site[0].intact.name,
            "instead": [one.substituted.model.residual_substitute for one in of_site],
        }
        if all(estimates.values()):
            claims.append(Claim("rescued", estimates, words, role="lead"))
    columns = {
        "What is missing": lambda ablation: switches.sublayers_in_words(ablation.model.residual_free),
        "Instead": lambda ablation: ablation.model.residual_substitute,
        "Rescue": rescued,
        "Converged": results.converged,
        "Still rising": results.still_rising,
        "Steps, mean up to the budget": results.steps,
    }
    told_of = {ablation.name for one in trios for ablation in (one.substituted, one.residual_free)}
    shown = [ablation for ablation in results.ablations if ablation.name in told_of]
    caption = "Rescue: 0 as without the connection, 1 as with it (Fieller 95% interval); steps: mean (t 95% interval)"
    figure = Figure(
        "rescue",
        "How much of what a missing residual connection costs its substitute gives back, by what is missing",
        "Mean over seeds with Fieller's 95% interval, cut off where it leaves the axis.",
        partial(drawn.rescue, results.tables["rescue.csv"], trios),
    )
    return SectionContent(claims, [table_by_ablation(shown, columns, caption)], [figure])
