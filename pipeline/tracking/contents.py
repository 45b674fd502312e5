"""Compute the learning curves and metrics that MLflow shows of an ablation, from its history and its evaluation.

Names of metrics begin with a group, by which MLflow's pages sort them: `curve/`, `summary/` or `test/`. In dictionaries
by seed, None stands for the ablation's parent run.
"""

import numpy as np
import pandas as pd

from pipeline.params import Ablation
from pipeline.params.score import SCORES
from pipeline.reporting.ceiling import is_proved_impossible
from pipeline.reporting.intervals import Summary, summarise_restricted_mean, summarise_share
from pipeline.reporting.results import restricted_steps
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
    by_seed = {seed: history.loc[history["seed"] == seed, columns] for seed in ablation.training.seeds}
    return {seed: curve.rename(columns=curve_metric) for seed, curve in ({None: mean} | by_seed).items()}


def curve_metric(column: str) -> str:
    """Return the name of the metric with the values of a column of history.csv."""
    return column if column == "step" else f"curve/{column}"


def score_metric(column: str) -> str:
    """Return the name of the metric with the values of a column of evaluation.csv, a score on the test split."""
    return f"test/{column.removeprefix('test_')}"


def build_metrics(ablation: Ablation, outcomes: pd.DataFrame) -> dict[int | None, dict[str, float]]:
    """Return the final metrics of each seed and of the ablation, as name -> value, without missing values.

    `summary/steps` are the steps to converge, or the budget if the run did not; so the mean over seeds is the
    ablation's. How many steps a run took is `summary/steps_trained`.

    Args:
        outcomes: the table evaluation.csv, or the outcomes of the training alone.
    """
    names = outcomes.columns.tolist()  # columns after `test_examples` are scores on parts of the test split
    breakdown = names[names.index("test_examples") + 1 :] if "test_examples" in names else []
    tested = [name for name in names if name in (*TEST_SCORE_COLUMNS, *breakdown) and not name.endswith("_examples")]
    trained = [name for name in ("converged", "diverged", *LEVELS, "area_above_curve") if name in names]
    by_seed = outcomes.set_index("seed")
    numbers = by_seed[trained].add_prefix("summary/").assign(**{"summary/steps_trained": by_seed["steps"]})
    if ablation.convergence_threshold is not None:
        numbers["summary/steps"] = restricted_steps(by_seed, ablation.training.steps)
    numbers = pd.concat([numbers, by_seed[tested].rename(columns=score_metric)], axis=1)
    numbers = numbers.apply(pd.to_numeric, errors="coerce").astype(float)
    by_run = {seed: row.dropna().to_dict() for seed, row in numbers.iterrows()}
    return {None: _summarize_seeds(ablation, outcomes)} | by_run


def interval_metrics(name: str, summary: Summary) -> dict[str, float]:
    """Return an estimate and the ends of its 95 % interval, if it has one, as metrics with four digits, for tables."""
    values = {f"{name}{suffix}": summary[key] for key, suffix in (("value", ""), ("low", "_low"), ("high", "_high"))}
    return {name: float(f"{value:.4g}") for name, value in values.items() if np.isfinite(value)}


def _summarize_seeds(ablation: Ablation, outcomes: pd.DataFrame) -> dict[str, float]:
    """Return the share of converged seeds, the mean steps to converge, and statistics of the test score.

    Without interval and steps if the ablation cannot converge by proof.
    """
    count, budget = len(outcomes), ablation.training.steps
    metrics = {"summary/n": float(count)}
    if ablation.convergence_threshold is not None:
        converged = int(outcomes["converged"].sum())
        is_proved = not converged and is_proved_impossible(ablation)
        metrics["summary/converged"] = float(converged)
        share = summarise_share(converged, count, impossible=is_proved)
        metrics |= interval_metrics("summary/converged_share", share)
        if not is_proved:
            steps = summarise_restricted_mean(restricted_steps(outcomes, budget), budget)
            metrics |= interval_metrics("summary/steps", steps)
    for column in outcomes.columns.intersection(TEST_SCORE_COLUMNS):
        test, name = outcomes[column], score_metric(column)
        metrics |= {name: test.median(), f"{name}_mean": test.mean()}
        metrics |= {f"{name}_min": test.min(), f"{name}_max": test.max()}
    return metrics
