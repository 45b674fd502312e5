"""Curves, metrics and notes of the runs of a trained ablation, computed from its artifact and evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import SCORES
from pipeline.reporting.intervals import exact_share_interval
from pipeline.training.artifact import Artifact
from pipeline.training.convergence import Convergence, history_columns, mean_learning_curve, run_outcomes

TEST_SCORES = [score.column("test") for score in SCORES]
SEED_METRICS = ["converged", "diverged", "steps", "steps_to_converge", *TEST_SCORES]


@dataclass(frozen=True)
class RunContent:
    """Curve, final metrics and note of one run in MLflow."""

    curve: pd.DataFrame
    """Table with one row per evaluation: `step`, and one column per metric."""
    metrics: Mapping[str, float]
    note: str = ""
    """Description of the run, in Markdown."""


def run_contents(artifact: Artifact, evaluation: pd.DataFrame | None) -> dict[int | None, RunContent]:
    """Return the content of each seed's run and, under None, of the parent run. `evaluation` is evaluation.csv."""
    ablation, history = artifact.ablation, artifact.history
    rule = Convergence.for_ablation(ablation)
    outcomes = run_outcomes(history, rule) if evaluation is None else evaluation
    note = describe_outcomes(ablation, outcomes)
    parent = RunContent(mean_learning_curve(history, rule), ablation_metrics(outcomes), note)
    contents: dict[int | None, RunContent] = {None: parent}
    for seed in ablation.training.seeds:
        curve = history.loc[history["seed"] == seed, ["step", *curve_columns(ablation)]]
        contents[seed] = RunContent(curve, seed_metrics(outcomes[outcomes["seed"] == seed].iloc[0]))
    return contents


def curve_columns(ablation: Ablation) -> list[str]:
    """Columns of history.csv that are drawn as curves."""
    return [name for name in history_columns(ablation.task.score) if name not in ("seed", "step", "diverged")]


def seed_metrics(outcome: pd.Series) -> dict[str, float]:
    """Return the final metrics of one seed, given its row of evaluation.csv, without missing values.

    The columns behind `test_examples` are the score on parts of the test split.
    """
    names = list(outcome.index)
    breakdown = names[names.index("test_examples") + 1 :] if "test_examples" in names else []
    values = {name: outcome[name] for name in [*SEED_METRICS, *breakdown] if name in outcome}
    return {
        name: float(value)
        for name, value in values.items()
        if not name.endswith("_examples") and not isinstance(value, str) and pd.notna(value)
    }


def ablation_metrics(outcomes: pd.DataFrame) -> dict[str, float]:
    """Number and share of converged seeds, with the 95 % Clopper-Pearson interval of the share, and median, mean and
    range of the test score."""
    runs = len(outcomes)
    metrics = {"runs": float(runs)}
    if outcomes["converged"].notna().all():
        converged = int(outcomes["converged"].sum())
        low, high = exact_share_interval(converged, runs)
        metrics |= {"converged": float(converged), "converged_share": converged / runs}
        metrics |= {"converged_low": low, "converged_high": high}
        if converged:
            metrics["steps_to_converge_median"] = float(outcomes["steps_to_converge"].median())
    for column in [name for name in TEST_SCORES if name in outcomes]:
        statistics = outcomes[column].agg(["mean", "min", "max"])
        metrics |= {f"{column}_{name}": float(value) for name, value in statistics.items()}
        metrics[column] = float(outcomes[column].median())
    return metrics


def describe_outcomes(ablation: Ablation, outcomes: pd.DataFrame) -> str:
    """Describe in Markdown how many seeds converged, their test scores, and the ablation."""
    rule, sentences = Convergence.for_ablation(ablation), []
    bound = "at least" if rule.score.higher_is_better else "at most"
    if rule.threshold is not None:
        sentences.append(
            f"**{int(outcomes['converged'].sum())} of {len(outcomes)} seeds converged** "
            f"(validation {rule.score.words}: {bound} {rule.threshold})."
        )
    if rule.score.column("test") in outcomes:
        test = outcomes[rule.score.column("test")]
        sentences.append(f"Test {rule.score.words}: {test.min():.3f} to {test.max():.3f}, median {test.median():.3f}.")
    return f"{' '.join(sentences)}\n\n{ablation.dataset}: {switches.describe_ablation(ablation, {})}."
