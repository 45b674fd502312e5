"""Does a network without residual connections fail because position is lost, or because it is hard to train?"""

from pipeline import switches
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.experiment import comparisons
from pipeline.reporting.experiment.evidence import Evidence
from pipeline.reporting.experiment.finding import Column, Finding, by_ablation, section


@section("mechanism", 60, "Or is it only trainability?", tells=["effective_rank"], scores=[EXACT_MATCH])
def trainability(evidence: Evidence) -> Finding | None:
    """Effective rank of each ablation with missing residual connections beside its intact counterpart."""
    if all(map(switches.is_intact, evidence.ablations)):
        return None
    compared = comparisons.wholes(evidence.ablations)
    intact = {ablation.name: whole for ablation, whole in compared}

    def rank(trained: int) -> Column:
        return lambda ablation: evidence.mean(
            "effective_rank", "effective_rank", "ratio", ablation, trained=trained, depth=ablation.model.layers
        )

    columns = {
        "Rank": rank(0),
        "Rank, whole": lambda ablation: rank(0)(intact[ablation.name]),
        "Rank, trained": rank(1),
    }
    caption = "Effective rank after the last layer, before training: mean over seeds (t 95% interval)"
    table = by_ablation([ablation for ablation, _ in compared], columns, caption)
    return Finding(tables=[table] if table.rows else [])
