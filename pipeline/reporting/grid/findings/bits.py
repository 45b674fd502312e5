"""Every cell of a task that is scored by bits, and what order is worth there."""

from functools import partial

from pipeline import cells as grid
from pipeline.reporting.claims import Claim
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.figures import outcomes
from pipeline.reporting.grid.finding import BITS, Column, Finding, by_cell, diverged, section
from pipeline.reporting.page import Figure
from pipeline.reporting.wording import brief


@section("results", 0, "Results by cell", scores=BITS)
def bits(evidence: Evidence) -> Finding:
    """The table of all cells with what the twin takes more, the main figure, and the cells that tell the story."""
    usual = grid.shared(evidence.cells)
    worth = [cell for cell in evidence.cells if evidence.order_value(cell)]
    columns: dict[str, Column] = {"Test bits per token": evidence.bits}
    if worth:
        columns["Worth of order"] = lambda cell: brief(found) if (found := evidence.order_value(cell)) else " "
    if any(cell.converged_at is not None for cell in evidence.cells):
        columns |= {"Converged": evidence.converged, "Steps": evidence.steps}
    columns |= {
        "Budget": evidence.of("budget", "steps"),
        **diverged(evidence),
        "What it is": lambda cell: grid.described(cell, usual),
    }
    caption = "Means over seeds (t 95% interval)"
    if worth:
        caption += ". Worth of order: how many bits the twin takes more, paired by seed"
    figure = Figure(
        "bits",
        "Test bits per token of every run by cell",
        "A mark is a run (seed), as it was at its best evaluation on validation data. Bar: the mean with its t 95% "
        "interval.",
        partial(outcomes.bits, evidence.runs, evidence.cells),
    )
    size_of = evidence.size()
    claims = [Claim("opening", size_of, {"task": evidence.problems.in_words}, place="opening")]
    claims += [
        Claim("worth", {"more": evidence.order_value(cell), "bits": evidence.bits(cell)}, {"cell": cell.name}, "lead")
        for cell in worth
    ]
    others = [cell for cell in evidence.base() if cell not in worth]
    claims += [Claim("bits", {"bits": evidence.bits(cell)}, {"cell": cell.name}, "lead") for cell in others]
    words = {
        "task": evidence.problems.in_words,
        "section": evidence.problems.task,
        "worth": bool(worth),
        "diverged": bool(diverged(evidence)),
    }
    return Finding(claims, [by_cell(evidence.cells, columns, caption)], [figure], words)
