"""Every ablation of a task that is scored by bits, and what order is worth there."""

from functools import partial

from pipeline import switches
from pipeline.params.score import BITS
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.figures import outcomes
from pipeline.reporting.experiment.finding import Column, Finding, by_ablation, diverged, section
from pipeline.reporting.page import Figure
from pipeline.reporting.wording import brief


@section("results", 0, "Results by ablation", scores=[BITS])
def bits(evidence: Evidence) -> Finding:
    """The table of all ablations with what the twin takes more, the main figure, and the ablations that tell the
    story."""
    usual = switches.common_values(evidence.ablations)
    worth = [ablation for ablation in evidence.ablations if evidence.order_value(ablation)]
    columns: dict[str, Column] = {"Test bits per token": evidence.bits}
    if worth:
        columns["Worth of order"] = lambda ablation: brief(found) if (found := evidence.order_value(ablation)) else " "
    if any(ablation.converged_at is not None for ablation in evidence.ablations):
        columns |= {"Converged": evidence.converged, "Steps": evidence.steps}
    columns |= {
        "Budget": evidence.of("budget", "steps"),
        **diverged(evidence),
        "What it is": lambda ablation: switches.describe(ablation, usual),
    }
    caption = "Means over seeds (t 95% interval)"
    if worth:
        caption += ". Worth of order: how many bits the twin takes more, paired by seed"
    figure = Figure(
        "bits",
        "Test bits per token of every run by ablation",
        "A mark is a run (seed), as it was at its best evaluation on validation data. Bar: the mean with its t 95% "
        "interval.",
        partial(outcomes.bits, evidence.runs, evidence.ablations),
    )
    size_of = evidence.size()
    claims = [Claim("opening", size_of, {"task": evidence.problems.in_words}, place="opening")]
    claims += [
        Claim(
            "worth",
            {"more": evidence.order_value(ablation), "bits": evidence.bits(ablation)},
            {"ablation": ablation.name},
            "lead",
        )
        for ablation in worth
    ]
    others = [ablation for ablation in evidence.base() if ablation not in worth]
    claims += [
        Claim("bits", {"bits": evidence.bits(ablation)}, {"ablation": ablation.name}, "lead") for ablation in others
    ]
    words = {
        "task": evidence.problems.in_words,
        "section": evidence.problems.task,
        "worth": bool(worth),
        "diverged": bool(diverged(evidence)),
    }
    return Finding(claims, [by_ablation(evidence.ablations, columns, caption)], [figure], words)
