"""Every ablation with its counts and scores, and the check of the instrument."""

from functools import partial

from pipeline import switches
from pipeline.params import Ablation, Training
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.figures import outcomes
from pipeline.reporting.experiment.finding import Finding, by_ablation, diverged, section
from pipeline.reporting.page import Figure
from pipeline.reporting.wording import brief, interval, percent


@section("results", 0, "Results by ablation", scores=[EXACT_MATCH])
def results(evidence: Evidence) -> Finding:
    """The table of all ablations, the main figure, and an alarm for every ablation that knows more than it can."""
    usual = switches.common_values(evidence.ablations)
    ceiling, p = evidence.of("order_blind_ceiling", "share"), evidence.of("ceiling_p_value", "p")
    alarms = [
        Claim(
            "above_ceiling",
            {"above": above, "ceiling": ceiling(ablation), "p": p(ablation)},
            {"ablation": ablation.name},
            place="alarm",
        )
        for ablation in evidence.ablations
        if (above := evidence.of("runs_above_ceiling", "count")(ablation)) and above.value
    ]

    def between(ablation: Ablation) -> str:
        converged = evidence.converged(ablation)
        return interval(converged) if converged else ""

    columns = {
        "Converged": evidence.converged,
        "95% interval": between,
        "Steps": evidence.steps,
        "Budget": evidence.of("budget", "steps"),
        "Still rising": lambda ablation: brief(found) if (found := evidence.rising(ablation)) else " ",
        "Test exact match": evidence.exact_match,
        "Ceiling": lambda ablation: brief(found) if (found := ceiling(ablation)) else " ",
        **diverged(evidence),
        "What it is": lambda ablation: switches.describe(ablation, usual),
    }
    size = ", ".join(filter(None, (one.words(usual[one.field]) for one in switches.SWITCHES if not one.always_shown)))
    caption = (
        "Steps: mean up to the budget (t 95% interval). Test: median (min to max) over seeds. Where not said "
        f"otherwise: {size}, every residual connection"
    )
    figures = [
        Figure(
            "steps",
            "Steps to converge of every run by ablation, up to the budget, and how many runs of each ablation "
            "converged",
            "A mark is a run (seed): where it converged, or at the end of its budget (a triangle where it was still "
            "getting better, a cross where not). Bar: the mean up to the budget with its t 95% interval. Right: how "
            "many runs converged, with the exact 95% interval of their share.",
            partial(outcomes.steps, evidence.runs, evidence.ablations),
        ),
        Figure(
            "exact_match",
            "Test exact match of every run by ablation",
            "A mark is a run (seed) at its last step; the bar is the median over seeds.",
            partial(outcomes.exact_match, evidence.runs, evidence.ablations, evidence.ceiling),
        ),
    ]
    size_of = evidence.size()
    one_size = len({len(ablation.training.seeds) for ablation in evidence.ablations}) == 1
    fewest = evidence.estimate("ablations.csv", "runs", "count", {"task": evidence.dataset}, statistic="min")
    size_of["seeds"] = fewest if one_size else None
    opening = Claim("opening", size_of, {"task": evidence.problems.in_words}, place="opening")
    words = {
        "task": evidence.problems.in_words,
        "section": evidence.problems.task,
        "converged_at": sorted({ablation.training.converged_at for ablation in evidence.ablations}),
        "converged_for": sorted({ablation.training.converged_for for ablation in evidence.ablations}),
        "stops": any(ablation.training.stop_when_converged for ablation in evidence.ablations),
        "schedules": sorted({_schedule(ablation.training) for ablation in evidence.ablations}),
        "diverged": bool(diverged(evidence)),
    }
    return Finding([opening, *alarms], [by_ablation(evidence.ablations, columns, caption)], figures, words)


def _schedule(training: Training) -> str:
    """What the learning rate does, and with it what a larger budget would."""
    if training.schedule == "constant":
        return "stays as it is"
    falls = f"falls by a cosine to {percent(training.final_learning_rate)} of its highest"
    if training.decay_steps is None:
        return f"{falls} over the whole budget, so that with a larger one a run would be another from its start"
    return (
        f"{falls} over the first {training.decay_steps:,} steps, so that a larger budget would only make a run longer"
    )
