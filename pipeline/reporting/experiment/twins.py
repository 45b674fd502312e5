"""What order is worth: how many bits per token an ablation takes more on a task's twin, which is the same but for the order
of what it is told."""

from collections.abc import Sequence

import pandas as pd

from pipeline.params import Ablation
from pipeline.reporting.experiment.comparisons import by_seed, scores
from pipeline.reporting.intervals import mean_of

COLUMNS = ("ablation", "twin", "seeds", "bits", "low", "high")


def twin(ablations: Sequence[Ablation], ablation: Ablation) -> Ablation | None:
    """The same ablation on the twin of its task, where the grid has it."""
    same = ablation.task, ablation.model, ablation.training
    twins = [
        one for one in ablations if one.task != ablation.task and (one.task.untwinned, one.model, one.training) == same
    ]
    return next(iter(twins), None)


def table(ablations: Sequence[Ablation], runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each ablation that has a twin: the mean over their `seeds` of the twin's test bits per token less its own,
    with its t interval."""
    pairs = [(ablation.name, other.name) for ablation in ablations if (other := twin(ablations, ablation))]
    scored = scores("test_bits", runs, 0) if pairs else pd.DataFrame()
    rows = []
    for name, twin_name in pairs:
        found = by_seed(scored, twin_name, name)
        rows.append([name, twin_name, len(found), *mean_of(found)])
    return pd.DataFrame([row for row in rows if row[2]], columns=list(COLUMNS))
