"""Every cell with its counts and scores, and the check of the instrument."""

from functools import partial

from pipeline import cells as grid
from pipeline.params import Cell, Training
from pipeline.reporting.claims import Claim
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.figures import outcomes
from pipeline.reporting.grid.finding import ANSWERS, Finding, by_cell, diverged, section
from pipeline.reporting.page import Figure
from pipeline.reporting.wording import brief, interval, percent


@section("results", 0, "Results by cell", scores=ANSWERS)
def results(evidence: Evidence) -> Finding:
    """The table of all cells, the main figure, and an alarm for every cell that knows more than it can."""
    usual = grid.shared(evidence.cells)
    ceiling, p = evidence.of("order_blind_ceiling", "share"), evidence.of("ceiling_p_value", "p")
    alarms = [
        Claim(
            "above_ceiling",
            {"above": above, "ceiling": ceiling(cell), "p": p(cell)},
            {"cell": cell.name},
            place="alarm",
        )
        for cell in evidence.cells
        if (above := evidence.of("runs_above_ceiling", "count")(cell)) and above.value
    ]

    def between(cell: Cell) -> str:
        converged = evidence.converged(cell)
        return interval(converged) if converged else ""

    columns = {
        "Converged": evidence.converged,
        "95% interval": between,
        "Steps": evidence.steps,
        "Budget": evidence.of("budget", "steps"),
        "Still rising": lambda cell: brief(found) if (found := evidence.rising(cell)) else " ",
        "Test exact match": evidence.exact_match,
        "Ceiling": lambda cell: brief(found) if (found := ceiling(cell)) else " ",
        **diverged(evidence),
        "What it is": lambda cell: grid.described(cell, usual),
    }
    size = ", ".join(filter(None, (one.words(usual[one.field]) for one in grid.SWITCHES if not one.spoken)))
    caption = (
        "Steps: mean up to the budget (t 95% interval). Test: median (min to max) over seeds. Where not said "
        f"otherwise: {size}, every residual connection"
    )
    figures = [
        Figure(
            "steps",
            "Steps to converge of every run by cell, up to the budget, and how many runs of each cell converged",
            "A mark is a run (seed): where it converged, or at the end of its budget (a triangle where it was still "
            "getting better, a cross where not). Bar: the mean up to the budget with its t 95% interval. Right: how "
            "many runs converged, with the exact 95% interval of their share.",
            partial(outcomes.steps, evidence.runs, evidence.cells),
        ),
        Figure(
            "exact_match",
            "Test exact match of every run by cell",
            "A mark is a run (seed) at its last step; the bar is the median over seeds.",
            partial(outcomes.exact_match, evidence.runs, evidence.cells, evidence.ceiling),
        ),
    ]
    size_of = evidence.size()
    one_size = len({len(cell.training.seeds) for cell in evidence.cells}) == 1
    fewest = evidence.estimate("ablations.csv", "runs", "count", {"task": evidence.dataset}, statistic="min")
    size_of["seeds"] = fewest if one_size else None
    opening = Claim("opening", size_of, {"task": evidence.problems.in_words}, place="opening")
    words = {
        "task": evidence.problems.in_words,
        "section": evidence.problems.task,
        "converged_at": sorted({cell.training.converged_at for cell in evidence.cells}),
        "converged_for": sorted({cell.training.converged_for for cell in evidence.cells}),
        "stops": any(cell.training.stop_when_converged for cell in evidence.cells),
        "schedules": sorted({_schedule(cell.training) for cell in evidence.cells}),
        "diverged": bool(diverged(evidence)),
    }
    return Finding([opening, *alarms], [by_cell(evidence.cells, columns, caption)], figures, words)


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
