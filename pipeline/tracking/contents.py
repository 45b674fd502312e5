"""Compute the curves, metrics and notes that MLflow shows of a trained ablation, from its artifact and evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import SCORES
from pipeline.reporting.intervals import exact_share_interval
from pipeline.training.artifact import Artifact
from pipeline.training.convergence import (
    Convergence,
    compute_mean_learning_curve,
    compute_run_outcomes,
    history_columns,
)

TEST_SCORE_COLUMNS = [score.column("test") for score in SCORES]
"""Columns of evaluation.csv with scores on the test examples."""
SEED_METRIC_COLUMNS = ["converged", "diverged", "steps", "steps_to_converge", *TEST_SCORE_COLUMNS]
"""Columns of evaluation.csv that are metrics of a seed's run in MLflow."""


@dataclass(frozen=True)
class RunContent:
    """Learning curves, final metrics and note of one run in MLflow."""

    curve: pd.DataFrame
    """Learning curves: a table with a row per evaluation during training, and columns `step` and one per metric."""
    metrics: Mapping[str, float]
    """Name -> value of each final metric."""
    note: str = ""
    """Description of the run, in Markdown."""


def build_run_contents(artifact: Artifact, evaluation: pd.DataFrame | None) -> dict[int | None, RunContent]:
    """Compute what MLflow shows of a trained ablation: seed -> content of that seed's run, None -> of the parent run.

    Args:
        artifact: the trained ablation.
        evaluation: the table evaluation.csv; None if the ablation was not evaluated.
    """
    ablation, history = artifact.ablation, artifact.history
    rule = Convergence.for_ablation(ablation)
    outcomes = compute_run_outcomes(history, rule) if evaluation is None else evaluation
    note = describe_outcomes(ablation, outcomes)
    parent = RunContent(compute_mean_learning_curve(history, rule), ablation_metrics(outcomes), note)
    contents: dict[int | None, RunContent] = {None: parent}
    for seed in ablation.training.seeds:
        curve = history.loc[history["seed"] == seed, ["step", *curve_columns(ablation)]]
        contents[seed] = RunContent(curve, seed_metrics(outcomes[outcomes["seed"] == seed].iloc[0]))
    return contents


def curve_columns(ablation: Ablation) -> list[str]:
    """Return the columns of history.csv that MLflow shows as learning curves."""
    return [name for name in history_columns(ablation.task.score) if name not in ("seed", "step", "diverged")]


def seed_metrics(outcome: pd.Series) -> dict[str, float]:
    """Return the final metrics of one seed as name -> value, without missing values.

    Args:
        outcome: the seed's row of evaluation.csv. Columns after `test_examples` are scores on parts of the test split.
    """
    names = list(outcome.index)
    breakdown = names[names.index("test_examples") + 1 :] if "test_examples" in names else []
    values = {name: outcome[name] for name in [*SEED_METRIC_COLUMNS, *breakdown] if name in outcome}
    return {
        name: float(value)
        for name, value in values.items()
        if not name.endswith("_examples") and not isinstance(value, str) and pd.notna(value)
    }


def ablation_metrics(outcomes: pd.DataFrame) -> dict[str, float]:
    """Return the metrics of an ablation as name -> value, given a row of evaluation.csv per seed.

    They are the number and share of converged seeds, the 95 % Clopper-Pearson interval of the share, and the median,
    mean and range of the test score.
    """
    runs = len(outcomes)
    metrics = {"runs": float(runs)}
    if outcomes["converged"].notna().all():
        converged = int(outcomes["converged"].sum())
        low, high = exact_share_interval(converged, runs)
        metrics |= {"converged": float(converged), "converged_share": converged / runs}
        metrics |= {"converged_low": low, "converged_high": high}
        if converged:
            metrics["steps_to_converge_median"] = float(outcomes["steps_to_converge"].median())
    for column in [name for name in TEST_SCORE_COLUMNS if name in outcomes]:
        statistics = outcomes[column].agg(["mean", "min", "max"])
        metrics |= {f"{column}_{name}": float(value) for name, value in statistics.items()}
        metrics[column] = float(outcomes[column].median())
    return metrics


def describe_outcomes(ablation: Ablation, outcomes: pd.DataFrame) -> str:
    """Describe an ablation in Markdown: how many seeds converged, the range of their test scores, and the settings."""
    rule, sentences = Convergence.for_ablation(ablation), []
    at_least_or_most = "at least" if rule.score.higher_is_better else "at most"
    if rule.threshold is not None:
        sentences.append(
            f"**{int(outcomes['converged'].sum())} of {len(outcomes)} seeds converged** "
            f"(validation {rule.score.label}: {at_least_or_most} {rule.threshold})."
        )
    if rule.score.column("test") in outcomes:
        test = outcomes[rule.score.column("test")]
        sentences.append(f"Test {rule.score.label}: {test.min():.3f} to {test.max():.3f}, median {test.median():.3f}.")
    return f"{' '.join(sentences)}\n\n{ablation.dataset}: {switches.describe_ablation(ablation, {})}."
