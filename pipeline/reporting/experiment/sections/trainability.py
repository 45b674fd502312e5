"""Effective rank of the hidden states, with and without residual connections."""

from pipeline import switches
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.section import Column, SectionContent, section, table_by_ablation
from pipeline.reporting.experiment.task_results import TaskResults


@section("mechanism", 60, "Or is it only trainability?", measurements=["effective_rank"], scores=[EXACT_MATCH])
def trainability(results: TaskResults) -> SectionContent | None:
    """Show the effective rank of each ablation that lacks residual connections beside its intact counterpart."""
    if all(map(switches.is_intact, results.ablations)):
        return None
    pairs = comparisons.intact_pairs(results.ablations)
    counterparts = {ablation.name: intact for ablation, intact in pairs}

    def rank(trained: int) -> Column:
        return lambda ablation: results.mean(
            "effective_rank", "effective_rank", "ratio", ablation, trained=trained, depth=ablation.model.layers
        )

    columns = {
        "Rank": rank(0),
        "Rank, intact": lambda ablation: rank(0)(counterparts[ablation.name]),
        "Rank, trained": rank(1),
    }
    caption = "Effective rank after the last layer, before training: mean over seeds (t 95% interval)"
    table = table_by_ablation([ablation for ablation, _ in pairs], columns, caption)
    return SectionContent(tables=[table] if table.rows else [])
