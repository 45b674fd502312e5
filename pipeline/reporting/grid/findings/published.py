"""Our cells beside the runs found in the authors' public notebooks."""

from pipeline.params import Cell
from pipeline.reporting.grid import published as runs
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.finding import Finding, by_cell, section
from pipeline.reporting.wording import percent


@section("details", 30, "Beside the published runs")
def published(evidence: Evidence) -> Finding | None:
    """A row for each cell that has published runs."""
    if evidence.problems.task.name != "addition":
        return None
    theirs = {cell.name: found for cell in evidence.cells if (found := runs.for_cell(cell))}

    def said(cell: Cell) -> str:
        found = theirs[cell.name]
        return f"{percent(found.median)} ({percent(found.low)} to {percent(found.high)}), n = {found.runs}"

    columns = {
        "Ours, at the last step": evidence.exact_match,
        "Published, maximum of each run": said,
        "What differs in ours": lambda cell: runs.differences(cell) or "the training set-up (see above)",
    }
    cells = [cell for cell in evidence.cells if cell.name in theirs]
    tables = [by_cell(cells, columns, "Test exact match over runs: median (min to max)")] if cells else []
    return Finding(tables=tables, words={"shallower": any(cell.model.layers != runs.LAYERS for cell in cells)})
