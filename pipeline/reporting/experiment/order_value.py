"""The value of order: how many more bits per token an ablation takes on shuffled data than on the data in order."""

from collections.abc import Sequence

import pandas as pd

from pipeline.params import Ablation
from pipeline.reporting.experiment.comparisons import differences_by_seed, pivot_by_seed
from pipeline.reporting.intervals import mean_with_interval

COLUMNS = ("ablation", "twin", "seeds", "bits", "low", "high")


def shuffled_counterpart(ablations: Sequence[Ablation], ablation: Ablation) -> Ablation | None:
    """The same ablation on the twin of its task, where the grid has it."""
    same = ablation.task, ablation.model, ablation.training
    twins = [
        one for one in ablations if one.task != ablation.task and (one.task.untwinned, one.model, one.training) == same
    ]
    return next(iter(twins), None)


def order_value_table(ablations: Sequence[Ablation], runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each ablation that was also trained on shuffled data.

    `bits` is the mean over seeds of (test bits per token on shuffled data) - (test bits per token in order), with its
    t interval `low` to `high`.
    """
    pairs = [
        (ablation.name, other.name) for ablation in ablations if (other := shuffled_counterpart(ablations, ablation))
    ]
    scored = pivot_by_seed("test_bits", runs, 0) if pairs else pd.DataFrame()
    rows = []
    for name, twin_name in pairs:
        found = differences_by_seed(scored, twin_name, name)
        rows.append([name, twin_name, len(found), *mean_with_interval(found)])
    return pd.DataFrame([row for row in rows if row[2]], columns=list(COLUMNS))
