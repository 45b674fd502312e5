"""Does the column of states above a position stay about that position's token, with and without residuals?"""

from functools import partial

from pipeline.params import Ablation
from pipeline.reporting.claims import Claim, Estimate, Unit
from pipeline.reporting.experiment.comparisons import depth_to_read, wholes
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.finding import Column, Finding, by_ablation, by_layer, by_panel, differences, section


@section("mechanism", 50, "Does the column above a position stay about its token?", tells=["slices"])
def slices(evidence: Evidence) -> Finding | None:
    """Dominance and margin of the own token, by ablation, at the depth where a missing residual connection would show: as
    trained, before, and what training added."""
    table = evidence.measured("slices")
    if table.empty:
        return None

    def own(value: str, unit: Unit, trained: int = 1) -> Column:
        return lambda ablation: evidence.mean(
            "own_token", value, unit, ablation, trained=trained, depth=depth_to_read(ablation)
        )

    def added(ablation: Ablation) -> Estimate | None:
        return evidence.mean("own_token_added", "dominance", "points", ablation, depth=depth_to_read(ablation))

    columns = {
        "Depth": lambda ablation: str(depth_to_read(ablation)),
        "Dominance": own("dominance", "share"),
        "before training": own("dominance", "share", trained=0),
        "added by training, points": added,
        "Margin, points": own("margin", "points"),
    }
    positions = table["position"].nunique()
    figure = by_panel(
        evidence,
        "slices",
        "Accuracy of reading the token at each position from the column above each position, a panel per ablation",
        "Trained, after the last layer, mean over seeds. Row: the column that is read; column: the token that is "
        "looked for. A dark diagonal: columns are about their own tokens.",
        partial(measured.slices, table),
    )
    return Finding(
        _answer(evidence),
        [
            by_ablation(evidence.ablations, columns, "Mean over seeds (t 95% interval)"),
            *differences(
                evidence, "margin", wholes(evidence.ablations),
                "Difference in the margin to the same ablation with every residual connection at the same depth, points",
            ),
        ],
        [figure],
        {"positions": positions, "causal": sum(1 / k for k in range(1, positions + 1)) / positions},
    )  # fmt: skip


def _answer(evidence: Evidence) -> list[Claim]:
    """By layer that lacks its connections, beside the whole ablation at the same depth, before training and after."""

    def about(ablation: Ablation, whole: Ablation) -> dict[str, Estimate | None]:
        return {
            f"{kind}{when}": evidence.mean(
                "own_token", "dominance", "share", one, trained=trained, depth=depth_to_read(ablation)
            )
            for kind, one in (("lacking", ablation), ("whole", whole))
            for when, trained in (("", 1), ("_before", 0))
        }

    estimates, layers = by_layer(evidence.ablations, about)
    return [Claim("answer", estimates, {"layers": layers})] if layers else []
