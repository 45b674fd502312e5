"""The value of order: how many more bits per token an ablation takes on shuffled data than on the data in order."""

from collections.abc import Sequence

import pandas as pd

from pipeline.params import Ablation
from pipeline.reporting.experiment.comparisons import differences_by_seed, pivot_by_seed
from pipeline.reporting.intervals import mean_with_interval

ORDER_VALUE_COLUMNS = ("ablation", "shuffled", "seeds", "bits", "low", "high")


def shuffled_counterpart(ablations: Sequence[Ablation], ablation: Ablation) -> Ablation | None:
    """Return the ablation with the same model and training on the shuffled data of the same task, or None."""
    for other in ablations:
        same_settings = (other.model, other.training) == (ablation.model, ablation.training)
        if same_settings and other.task != ablation.task and other.task.unshuffled == ablation.task:
            return other
    return None


def order_value_table(ablations: Sequence[Ablation], runs: pd.DataFrame) -> pd.DataFrame:
    """Return `order_value.csv`: a row for each ablation that was also trained on shuffled data.

    `bits` is the mean over seeds of (test bits per token on shuffled data) - (test bits per token in order), with its
    t interval `low` to `high`.
    """
    pairs = [
        (ablation.name, shuffled.name)
        for ablation in ablations
        if (shuffled := shuffled_counterpart(ablations, ablation))
    ]
    values = pivot_by_seed("test_bits", runs, 0) if pairs else pd.DataFrame()
    rows = []
    for name, shuffled_name in pairs:
        differences = differences_by_seed(values, shuffled_name, name)
        if len(differences):
            rows.append([name, shuffled_name, len(differences), *mean_with_interval(differences)])
    return pd.DataFrame(rows, columns=list(ORDER_VALUE_COLUMNS))
