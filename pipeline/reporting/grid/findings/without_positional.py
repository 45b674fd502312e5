"""Does a decoder without positional encoding learn the task at all, and what does it save and cost?"""

from functools import partial

from pipeline import cells as grid
from pipeline.params import Cell
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.grid import comparisons
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.figures import outcomes
from pipeline.reporting.grid.finding import Column, Finding, by_cell, differences, section
from pipeline.reporting.page import Figure


@section("questions", 10, "Does a causal decoder without positional encoding learn the task?", tells=["cost"])
def without_positional(evidence: Evidence) -> Finding | None:
    """Cells of the usual size without and with positional encoding, in outcome, steps and cost."""
    causal = evidence.base(attention="causal")
    bare, learned = (grid.find(causal, positional=name)[:1] for name in ("none", "learned"))
    if not bare:
        return None
    parameters = evidence.of("parameters", "count")
    outcome = {"bare_converged": evidence.converged(bare[0]), "bare_exact": evidence.exact_match(bare[0])}
    outcome |= {"learned_converged": None, "learned_exact": None}
    claims = [Claim("answer", outcome, lead=True)]
    for other in learned:
        outcome |= {"learned_converged": evidence.converged(other), "learned_exact": evidence.exact_match(other)}
        ratio = evidence.compared("without_positional", "steps_ratio", bare[0], other, "ratio")
        price = {"ratio": ratio, "p": evidence.beside(ratio, "p", "p") if ratio else None}
        price |= {"bare": parameters(bare[0]), "learned": parameters(other)}
        claims.append(Claim("price", price, lead=True))
    columns: dict[str, Column] = {
        "Parameters": parameters,
        "FLOPs per step": evidence.of("flops_per_step", "flops"),
        "Converged": evidence.converged,
        "Median steps": partial(_median_steps, evidence),
        "FLOPs to converge": evidence.of("flops_to_converge", "flops"),
    }
    tables = [
        *differences(
            evidence, "without_positional", "test_exact_match", comparisons.encodings(evidence),
            "Difference in test exact match, percentage points",
        ),
        *differences(
            evidence, "without_positional", "steps_ratio", comparisons.choices(evidence),
            "Steps to converge, times as many, over the seeds where both converged",
        ),
        by_cell(evidence.cells, columns, "Median steps: Kaplan-Meier over all runs (approximate 95% interval)"),
    ]  # fmt: skip
    figure = Figure(
        "not_yet_converged",
        "Share of runs not yet converged by step, a panel per cell",
        "Kaplan-Meier estimate over the seeds of each cell.",
        partial(outcomes.not_yet_converged, evidence.runs, evidence.cells),
    )
    return Finding(claims, tables, [figure])


def _median_steps(evidence: Evidence, cell: Cell) -> Estimate | str:
    median = evidence.estimate(
        "ablations.csv", "steps_median", "steps", {"ablation": cell.name},
        limits=("steps_median_low", "steps_median_high"), n="runs", interval="Kaplan-Meier 95%",
    )  # fmt: skip
    return median or f"not reached in {cell.training.steps:,}"
