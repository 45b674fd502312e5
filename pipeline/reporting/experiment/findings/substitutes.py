"""What gives back what a residual connection carries: content, position, scale, or the path of the gradient?"""

from functools import partial

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment import rescue
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.figures import rescue as drawn
from pipeline.reporting.experiment.finding import Finding, by_ablation, section
from pipeline.reporting.page import Figure


@section(
    "questions",
    50,
    "What does a residual connection give: position, content, or a path to learn by?",
    scores=[EXACT_MATCH],
)
def substitutes(evidence: Evidence) -> Finding | None:
    """Each ablation with a substitute beside the same ablation without one and the one with the connection itself."""
    trios = rescue.trios(evidence.ablations)
    if not trios:
        return None

    def rescued(ablation: Ablation) -> Estimate | None:
        where = {"ablation": ablation.name}
        return evidence.estimate("rescue.csv", "rescue", "ratio", where, n="seeds", interval="Fieller 95%")

    claims = []
    for site, plain in enumerate(dict.fromkeys(one.plain.name for one in trios)):
        of_site = [one for one in trios if one.plain.name == plain]
        cost = evidence.compared("restricted_steps", of_site[0].plain, of_site[0].whole)
        estimates: dict[str, Estimate | None] = {f"costs_{site}": cost}
        for place, one in enumerate(of_site):
            name, ablation = f"at_{site}_{place}", one.substituted
            estimates |= {f"{name}_rescue": rescued(ablation), f"{name}_converged": evidence.converged(ablation)}
        words = {
            "site": site,
            "plain": plain,
            "whole": of_site[0].whole.name,
            "instead": [one.substituted.model.residual_substitute for one in of_site],
        }
        if all(estimates.values()):
            claims.append(Claim("rescued", estimates, words, place="lead"))
    columns = {
        "What is missing": lambda ablation: switches.sublayers_in_words(ablation.model.residual_free),
        "Instead": lambda ablation: ablation.model.residual_substitute,
        "Rescue": rescued,
        "Converged": evidence.converged,
        "Still rising": evidence.rising,
        "Steps, mean up to the budget": evidence.steps,
    }
    told_of = {ablation.name for one in trios for ablation in (one.substituted, one.plain)}
    shown = [ablation for ablation in evidence.ablations if ablation.name in told_of]
    caption = "Rescue: 0 as without the connection, 1 as with it (Fieller 95% interval); steps: mean (t 95% interval)"
    figure = Figure(
        "rescue",
        "How much of what a missing residual connection costs its substitute gives back, by what is missing",
        "Mean over seeds with Fieller's 95% interval, cut off where it leaves the axis.",
        partial(drawn.rescue, evidence.tables["rescue.csv"], trios),
    )
    return Finding(claims, [by_ablation(shown, columns, caption)], [figure])
