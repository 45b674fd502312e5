"""Our cells beside the runs found in the authors' public notebooks."""

from pipeline.params import Cell
from pipeline.reporting.grid import published as runs
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.finding import Finding, by_cell, section
from pipeline.reporting.wording import NOTHING, listed, percent


@section("details", 30, "Beside the published runs")
def published(evidence: Evidence) -> Finding | None:
    """A row for each cell that has published runs."""
    if evidence.problems.task.name != "addition":
        return None
    theirs = {cell.name: found for cell in evidence.cells if (found := runs.for_cell(cell))}
    cells = [cell for cell in evidence.cells if cell.name in theirs]

    def said(cell: Cell) -> str:
        found = theirs[cell.name]
        return f"{percent(found.median)} ({percent(found.low)} to {percent(found.high)}), n = {found.runs}"

    others = {cell.name: runs.differences(cell) for cell in cells}
    always = [what for what in next(iter(others.values()), []) if all(what in found for found in others.values())]

    def own(cell: Cell) -> str:
        return listed([what for what in others[cell.name] if what not in always]) or NOTHING

    columns = {
        "Layers without": lambda cell: runs.roles(cell.model.residual_free.mlp, cell.model.layers) or NOTHING,
        "Ours, at the last step": evidence.exact_match,
        "Published, maximum of each run": said,
        "What else differs": own,
    }
    tables = [by_cell(cells, columns, "Test exact match over runs: median (min to max)")] if cells else []
    return Finding(tables=tables, words={"always": listed(always)})
