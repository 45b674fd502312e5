"""Compute the learning curves and metrics that MLflow shows of an ablation, from its history and its evaluation.

In dictionaries by seed, None stands for the ablation's parent run.
"""

import pandas as pd

from pipeline.params import Ablation
from pipeline.params.score import SCORES
from pipeline.reporting.intervals import exact_share_interval
from pipeline.training.convergence import LEVELS, Convergence, compute_mean_learning_curve, history_columns

TEST_SCORE_COLUMNS = [score.column("test") for score in SCORES]
"""Columns of evaluation.csv with scores on the test examples."""


def build_curves(ablation: Ablation, history: pd.DataFrame) -> dict[int | None, pd.DataFrame]:
    """Return the learning curves of each seed, and their mean: columns `step` and one per metric, a row per evaluation.

    Args:
        history: the table history.csv, or its beginning.
    """
    columns = [name for name in history_columns(ablation.task.score) if name not in ("seed", "diverged")]
    mean = compute_mean_learning_curve(history, Convergence.for_ablation(ablation))
    return {None: mean, **{seed: history.loc[history["seed"] == seed, columns] for seed in ablation.training.seeds}}


def build_metrics(outcomes: pd.DataFrame) -> dict[int | None, dict[str, float]]:
    """Return the final metrics of each seed and of the ablation, as name -> value, without missing values.

    Args:
        outcomes: the table evaluation.csv, or the outcomes of the training alone.
    """
    names = outcomes.columns.tolist()  # columns after `test_examples` are scores on parts of the test split
    breakdown = names[names.index("test_examples") + 1 :] if "test_examples" in names else []
    in_steps = ["steps", *LEVELS, "steps_to_converge", "area_above_curve"]
    shown = ["converged", "diverged", *in_steps, *TEST_SCORE_COLUMNS, *breakdown]
    columns = [name for name in names if name in shown and not name.endswith("_examples")]
    numbers = outcomes.set_index("seed")[columns].apply(pd.to_numeric, errors="coerce").astype(float)
    return {None: _summarize_seeds(outcomes)} | {seed: row.dropna().to_dict() for seed, row in numbers.iterrows()}


def _summarize_seeds(outcomes: pd.DataFrame) -> dict[str, float]:
    """Return the share of converged seeds with its 95 % Clopper-Pearson interval, and statistics of the test score."""
    runs = len(outcomes)
    metrics = {"runs": float(runs)}
    if outcomes["converged"].notna().all():
        converged = int(outcomes["converged"].sum())
        low, high = exact_share_interval(converged, runs)
        metrics |= {"converged": float(converged), "converged_share": converged / runs}
        metrics |= {"converged_low": low, "converged_high": high}
        if converged:
            metrics["steps_to_converge_median"] = float(outcomes["steps_to_converge"].median())
    for column in outcomes.columns.intersection(TEST_SCORE_COLUMNS):
        test = outcomes[column]
        metrics |= {column: test.median(), f"{column}_mean": test.mean()}
        metrics |= {f"{column}_min": test.min(), f"{column}_max": test.max()}
    return metrics
