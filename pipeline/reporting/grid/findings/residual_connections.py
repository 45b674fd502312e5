"""Which cells converge without which residual connections?"""

from pipeline import cells as grid
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.grid import comparisons
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.finding import Finding, by_cell, differences, section


@section("questions", 40, "What do residual connections have to do with it?")
def residual_connections(evidence: Evidence) -> Finding | None:
    """The cells that lack any, and each beside the same cell with all of them. Controls are counted apart."""
    lacking = [cell for cell in evidence.cells if not grid.is_whole(cell)]
    if not lacking:
        return None
    claims = []
    for kind in ("lacking", "control"):
        chosen = [cell for cell in lacking if grid.is_control(cell) == (kind == "control")]
        for positional in dict.fromkeys(cell.model.positional for cell in chosen):

            def counted(runs: list[str], kind: str = kind, positional: str = positional) -> Estimate | None:
                where = {"task": evidence.dataset, "residual": kind, "positional": positional, "converged_in": runs}
                return evidence.estimate("ablations.csv", "ablation", "count", where, statistic="rows")

            shares = {"every": ["every"], "some": ["some"], "never": ["none"], "cells": ["every", "some", "none"]}
            estimates = {name: counted(runs) for name, runs in shares.items()}
            claims.append(Claim(kind, estimates, {"encoding": grid.encoding(positional)}, lead=kind == "lacking"))
    usual = grid.shared(evidence.cells)
    columns = {
        "What is missing": lambda cell: grid.missing(cell.model.residual_free).removeprefix("no residual at "),
        "Otherwise": lambda cell: grid.described(cell, usual | {"residual_free": cell.model.residual_free}),
        "Converged": evidence.converged,
        "Test exact match": evidence.exact_match,
    }
    pairs = comparisons.wholes(evidence.cells)
    caption = "Difference in test exact match to the same cell with every residual connection, percentage points"
    compared = differences(evidence, "residual_connections", "test_exact_match", pairs, caption)
    return Finding(claims, [by_cell(lacking, columns, "Test: median (min to max) over seeds"), *compared])
