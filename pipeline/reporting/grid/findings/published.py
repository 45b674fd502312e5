"""Our cells beside the runs found in the authors' public notebooks."""

from pipeline.params import Cell
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.grid import published as runs
from pipeline.reporting.grid.comparisons import one_layer_each
from pipeline.reporting.grid.evidence import Evidence
from pipeline.reporting.grid.finding import Finding, by_cell, section
from pipeline.reporting.wording import NOTHING, listed, sure


@section("details", 30, "Beside the published runs")
def published(evidence: Evidence) -> Finding | None:
    """A row for each cell that has published runs, and which layer's residual connections cost most, there and here."""
    cells = [cell for cell in evidence.cells if _theirs(evidence, cell)]
    if not cells:
        return None
    others = {cell.name: runs.differences(cell) for cell in cells}
    always = [what for what in next(iter(others.values())) if all(what in found for found in others.values())]

    def own(cell: Cell) -> str:
        return listed([what for what in others[cell.name] if what not in always]) or NOTHING

    columns = {
        "Layers without": lambda cell: runs.roles(cell.model.residual_free.mlp, cell.model.layers) or NOTHING,
        "Ours, at the last step": evidence.exact_match,
        "Published, maximum of each run": lambda cell: sure(_theirs(evidence, cell)),
        "What else differs": own,
    }
    table = by_cell(cells, columns, "Test exact match over runs: median (min to max)")
    return Finding(_by_role(evidence), [table], words={"always": listed(always)})


def _theirs(evidence: Evidence, cell: Cell) -> Estimate | None:
    """The median of the published runs."""
    where = {"ablation": cell.name}
    found = evidence.estimate(
        "ablations.csv", "published_median", "share", where, n="published_runs",
        limits=("published_min", "published_max"), interval="minimum to maximum",
    )  # fmt: skip
    return found and found.model_copy(update={"budget": runs.THEIRS["training"]["steps"]})


def _by_role(evidence: Evidence) -> list[Claim]:
    """Whose residual connections cost least and most, in their runs and in ours."""
    pairs = {
        runs.roles(cell.model.residual_free.mlp, cell.model.layers): (cell, whole)
        for cell, whole in one_layer_each(evidence.cells)
    }
    theirs = {role: found for role, (cell, _) in pairs.items() if (found := _theirs(evidence, cell))}
    ours = {
        role: found
        for role, (cell, whole) in pairs.items()
        if (found := evidence.compared("restricted_steps", cell, whole))
    }
    if len(theirs) < 2 or set(theirs) != set(ours):
        return []
    by_theirs = sorted(theirs, key=lambda role: -theirs[role].value)
    by_ours = sorted(ours, key=lambda role: ours[role].value)
    estimates: dict[str, Estimate | None] = {f"theirs_{role}": found for role, found in theirs.items()}
    estimates |= {f"ours_{role}": found for role, found in ours.items()}
    return [Claim("by_role", estimates, {"theirs": by_theirs, "ours": by_ours})]
