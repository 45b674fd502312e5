"""Linear probe of every token from the states above every position, with and without residual connections."""

from functools import partial

from pipeline.params import Ablation
from pipeline.reporting.claims import Claim, Estimate, Unit
from pipeline.reporting.experiment.comparisons import comparison_depth, intact_pairs
from pipeline.reporting.experiment.figures import measured as figures
from pipeline.reporting.experiment.section import (
    CellFunction,
    SectionContent,
    collect_single_layer_estimates,
    difference_tables,
    panel_figure,
    register_section,
    table_by_ablation,
)
from pipeline.reporting.experiment.task_results import TaskResults


@register_section(
    "mechanism", 50, "Does the column above a position stay about its token?", measurements=["token_probe"]
)
def build_token_probe_section(results: TaskResults) -> SectionContent | None:
    """Build the section on how much better the token at a position can be read from its state than other tokens.

    The state is that after the last layer that lacks a residual connection, or after the last layer.
    """
    table = results.measurement_table("token_probe")
    if table.empty:
        return None

    def own_token_column(value: str, unit: Unit, trained: int = 1) -> CellFunction:
        return lambda ablation: results.measured_mean(
            "own_token", value, unit, ablation, trained=trained, depth=comparison_depth(ablation)
        )

    def read_added_dominance(ablation: Ablation) -> Estimate | None:
        return results.measured_mean(
            "own_token_added", "dominance", "points", ablation, depth=comparison_depth(ablation)
        )

    columns = {
        "Depth": lambda ablation: str(comparison_depth(ablation)),
        "Dominance": own_token_column("dominance", "share"),
        "before training": own_token_column("dominance", "share", trained=0),
        "added by training, points": read_added_dominance,
        "Margin, points": own_token_column("margin", "points"),
    }
    positions = table["position"].nunique()
    figure = panel_figure(
        results,
        "slices",
        "Accuracy of reading the token at each position from the column above each position, a panel per ablation",
        "Trained, after the last layer, mean over seeds. Row: the column that is read; column: the token that is "
        "looked for. A dark diagonal: columns are about their own tokens.",
        partial(figures.draw_token_probe, table),
    )
    return SectionContent(
        _answer_claims(results),
        [
            table_by_ablation(results.ablations, columns, "Mean over seeds (t 95% interval)"),
            *difference_tables(
                results, "margin", intact_pairs(results.ablations),
                "Difference in the margin to the same ablation with every residual connection, same depth, points",
            ),
        ],
        [figure],
        {"positions": positions, "causal": sum(1 / k for k in range(1, positions + 1)) / positions},
    )  # fmt: skip


def _answer_claims(results: TaskResults) -> list[Claim]:
    """Return a claim about the dominance without the connections of each layer, beside the intact ablation."""

    def read_pair_estimates(ablation: Ablation, intact: Ablation) -> dict[str, Estimate | None]:
        return {
            f"{kind}{when}": results.measured_mean(
                "own_token", "dominance", "share", measured, trained=trained, depth=comparison_depth(ablation)
            )
            for kind, measured in (("lacking", ablation), ("whole", intact))
            for when, trained in (("", 1), ("_before", 0))
        }

    estimates, layers = collect_single_layer_estimates(results.ablations, read_pair_estimates)
    return [Claim("answer", estimates, {"layers": layers})] if layers else []
