"""Does the answer need what the mean of the states at a position says of it?"""

from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment.evidence import Evidence, trained
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.finding import LINES, Finding, by_ablation, by_panel, columns_by_depth, section


@section("mechanism", 35, "Does the answer need what states say of their position?", tells=["erasure"])
def erasure(evidence: Evidence) -> Finding | None:
    """Exact match without the mean, the mean and the size, of every position's states, and with as large a sham."""
    table = evidence.measured("erasure")
    if table.empty:
        return None
    depths = range(int(table["depth"].max()) + 1)
    what = {"mean_erased": "without the mean of each position", "size_erased": "without its size, too", "sham": "sham"}
    tables = [
        by_ablation(
            evidence.ablations,
            columns_by_depth(evidence, "erasure", value, depths),
            f"Exact match on validation rows, {words}; mean over seeds (t 95% interval)",
        )
        for value, words in what.items()
    ]
    claims = []
    for ablation in evidence.base(positional="none", attention="causal")[:1]:
        inner = range(1, ablation.model.layers)
        estimates: dict[str, Estimate | None] = {
            f"{value}_{depth}": evidence.mean("erasure", value, "share", ablation, depth=depth)
            for depth in inner
            for value in what
        }
        known = {f"depth_{depth}": evidence.beside(estimates[f"sham_{depth}"], "depth", "count") for depth in inner}
        untouched = evidence.mean("erasure", "untouched", "share", ablation, depth=0)
        if estimates and untouched and all(estimates.values()):
            words = {"ablation": ablation.name, "depths": list(inner)}
            claims.append(Claim("answer", {"untouched": untouched, **estimates, **known}, words))
    figure = by_panel(
        evidence,
        "erasure",
        "Exact match when the states of every position are moved to the same mean, by depth and ablation",
        f"{LINES} Dashed: moved as far in a direction that means nothing.",
        lambda ablations: measured.lines(
            trained(table),
            ablations,
            "mean_erased",
            labels=("Depth (layers passed)", "Exact match, means erased"),
            dashed=(trained(table).assign(mean_erased=table["sham"]), "sham"),
        ),
    )
    return Finding(claims, tables, [figure])
