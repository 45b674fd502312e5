"""Can the position be read from the residual stream by a linear probe?"""

from functools import partial

from pipeline import cells as grid
from pipeline.params import Cell
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.grid.evidence import Evidence, trained
from pipeline.reporting.grid.figures import measured
from pipeline.reporting.grid.finding import MOMENTS, Column, Finding, by_cell, section
from pipeline.reporting.page import Figure


@section("mechanism", 30, "Is position readable?", tells=["position_probe"])
def position_probe(evidence: Evidence) -> Finding | None:
    """R² of the absolute position by cell, at the depth where it is best read."""
    table = evidence.measured("position_probe")
    if table.empty:
        return None
    position = table[(table["rows"] == "random") & (table["target"] == "position") & (table["control"] == 0)]
    means = trained(position).groupby(["ablation", "depth"])["r2"].mean().reset_index()
    best = {str(name): int(rows["depth"].iloc[rows["r2"].argmax()]) for name, rows in means.groupby("ablation")}

    def at_best(value: str, *, trained: int = 1, rows: str = "random", target: str = "position") -> Column:
        def look_up(cell: Cell) -> Estimate | None:
            if cell.name not in best:
                return None
            keys = {"rows": rows, "target": target, "control": 0, "depth": best[cell.name]}
            return evidence.mean("position_probe", value, "number", cell, trained=trained, **keys)

        return look_up

    columns = {
        "Best depth": lambda cell: str(best.get(cell.name, "")),
        "R² of position there": at_best("r2"),
        "before training": at_best("r2", trained=0),
        "Error there (positions)": at_best("error"),
        "R² of distance there": at_best("r2", target="distance"),
        "R² of position, task rows": at_best("r2", rows="task"),
    }
    claims = []
    causal = evidence.base(attention="causal")
    bare, learned = (grid.find(causal, positional=positional)[:1] for positional in ("none", "learned"))
    if bare and learned and {bare[0].name, learned[0].name} <= best.keys():
        estimates: dict[str, Estimate | None] = {}
        for name, cell in (("bare", bare[0]), ("learned", learned[0])):
            found = at_best("r2")(cell)
            assert isinstance(found, Estimate)
            estimates |= {name: found, f"{name}_depth": evidence.beside(found, "depth", "count")}
        words = {"bare_cell": bare[0].name, "learned_cell": learned[0].name}
        claims.append(Claim("answer", estimates, words, lead=True))
    figure = Figure(
        "position_probe",
        "R² of a linear probe for absolute position on random rows, by depth and cell",
        f"{MOMENTS} A probe that knows nothing has 0.",
        partial(
            measured.lines, position.assign(r2=position["r2"].clip(lower=-0.1)), evidence.cells, "r2",
            labels=("Depth (layers passed)", "R² of position, random rows"), reference=(0.0, "knows nothing"),
        ),
    )  # fmt: skip
    caption = "As trained, random rows unless said: mean over seeds (bootstrap 95% interval)"
    return Finding(claims, [by_cell(evidence.cells, columns, caption)], [figure])
