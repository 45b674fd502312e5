"""Does a network without residual connections fail because position is lost, or because it is hard to train?"""

from pipeline import switches
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.section import Column, SectionContent, section, table_by_ablation
from pipeline.reporting.experiment.task_results import TaskResults


@section("mechanism", 60, "Or is it only trainability?", measurements=["effective_rank"], scores=[EXACT_MATCH])
def trainability(results: TaskResults) -> SectionContent | None:
    """Effective rank of each ablation with missing residual connections beside its intact counterpart."""
    if all(map(switches.is_intact, results.ablations)):
        return None
    compared = comparisons.intact_pairs(results.ablations)
    intact = {ablation.name: whole for ablation, whole in compared}

    def rank(trained: int) -> Column:
        return lambda ablation: results.mean(
            "effective_rank", "effective_rank", "ratio", ablation, trained=trained, depth=ablation.model.layers
        )

    columns = {
        "Rank": rank(0),
        "Rank, whole": lambda ablation: rank(0)(intact[ablation.name]),
        "Rank, trained": rank(1),
    }
    caption = "Effective rank after the last layer, before training: mean over seeds (t 95% interval)"
    table = table_by_ablation([ablation for ablation, _ in compared], columns, caption)
    return SectionContent(tables=[table] if table.rows else [])
