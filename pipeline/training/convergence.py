"""Rule of convergence, and tables computed with it from the history of an ablation: outcomes and mean curve."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from pipeline.params import Ablation
from pipeline.params.score import EXACT_MATCH, Score

LEVELS = {"steps_to_50": 0.5, "steps_to_90": 0.9}
"""Column of the table of outcomes -> validation exact match that a run first reaches after so many steps."""
HistoryRows = list[dict[str, Any]]
"""Results of the evaluations during training: one row per seed and evaluation, with the columns of `history.csv`."""


def history_columns(score: Score = EXACT_MATCH) -> list[str]:
    """Return the column names of `history.csv`, which has one row per seed and evaluation."""
    losses = ("train_loss", "validation_loss")
    return ["seed", "step", *losses, score.column("validation"), "gradient_norm", "learning_rate", "diverged"]


@dataclass(frozen=True)
class Convergence:
    """Rule by which a run has converged: its validation score reaches a threshold in several evaluations in a row."""

    threshold: float | None
    """Validation score that a run must reach to converge; None if runs of this ablation never count as converged."""
    example_count: int
    """Number of validation examples from which a score is computed."""
    evaluations_in_a_row: int = 1
    """Number of evaluations in a row in which the score must reach the threshold."""
    score: Score = EXACT_MATCH
    budget: int = 0
    """Largest number of training steps of a run."""
    uncounted_evaluations: int = 0
    """Number of evaluations at the beginning that count for no threshold."""

    @classmethod
    def for_ablation(cls, ablation: Ablation) -> "Convergence":
        task, training = ablation.task, ablation.training
        threshold, in_a_row = ablation.convergence_threshold, training.converged_for
        uncounted = ablation.uncounted_evaluations
        return cls(threshold, task.validation_size, in_a_row, task.score, training.steps, uncounted)

    @property
    def score_column(self) -> str:
        """Column of `history.csv` that holds the validation score."""
        return self.score.column("validation")

    def has_converged(self, scores: Any) -> Bool[np.ndarray, "evaluations ..."]:
        """Compute for each evaluation whether each run has converged by then, from scores `[evaluations, ...]`."""
        return self._has_reached(scores, self.threshold)

    def find_step(self, run: pd.DataFrame, threshold: float | None) -> int | None:
        """Return the step of the first of `evaluations_in_a_row` evaluations of a run whose score reaches `threshold`;
        None if there are not so many."""
        reached = self._has_reached(run[self.score_column], threshold)
        first = reached.argmax() + 1 - self.evaluations_in_a_row
        return int(run["step"].iloc[first]) if reached[-1] else None

    def _has_reached(self, scores: Any, threshold: float | None) -> Bool[np.ndarray, "evaluations ..."]:
        reached = self.score.reaches(scores, threshold, self.example_count)
        streak, long_enough = np.zeros(reached.shape[1:], int), np.zeros_like(reached)
        for evaluation, counts in enumerate(reached):
            streak = np.where(counts & (evaluation >= self.uncounted_evaluations), streak + 1, 0)
            long_enough[evaluation] = streak >= self.evaluations_in_a_row
        return np.logical_or.accumulate(long_enough)


def compute_run_outcomes(history: pd.DataFrame, convergence: Convergence) -> pd.DataFrame:
    """Compute a table with the outcome of each run: one row per seed, in order of appearance.

    The validation score is that of the last evaluation, or of the best one if the task is scored in bits.
    `steps_to_converge` is the step of the first of the evaluations in a row that reached the threshold; `steps_to_50`
    and `steps_to_90` are those for an exact match of 50 and 90 %. These two and the area above the learning curve (see
    `compute_area_above_curve`) are missing if the task is scored in bits.
    """
    column, rows = convergence.score_column, []
    is_exact_match = convergence.score == EXACT_MATCH
    for seed, run in history.groupby("seed", sort=False):
        steps_to_converge, last = convergence.find_step(run, convergence.threshold), run.iloc[-1]
        levels = {name: convergence.find_step(run, level) if is_exact_match else None for name, level in LEVELS.items()}
        rows.append(
            {
                "seed": seed,
                "steps": int(last["step"]),
                "converged": None if convergence.threshold is None else int(steps_to_converge is not None),
                **levels,
                "steps_to_converge": steps_to_converge,
                "area_above_curve": compute_area_above_curve(run, convergence) if is_exact_match else np.nan,
                "diverged": int(last["diverged"]),
                column: float(last[column] if convergence.score.higher_is_better else run[column].min()),
            }
        )
    with_gaps = ["steps_to_converge", *LEVELS, *(["converged"] if convergence.threshold is None else [])]
    return pd.DataFrame(rows).astype(dict.fromkeys(with_gaps, "Int64"))


def compute_area_above_curve(run: pd.DataFrame, convergence: Convergence) -> float:
    """Compute the area between a run's learning curve and a perfect score, in training steps.

    It is the sum of (1 - score) times the steps since the evaluation before, until the run converges or its budget
    ends. Scores are shares as in `as_share`. A run that diverged counts with score 0 from then on.
    """
    scores = np.nan_to_num(convergence.score.as_share(run[convergence.score_column]))
    steps = run["step"].to_numpy(float)
    areas = (1.0 - scores) * np.diff(steps, prepend=0.0)
    converged = convergence.find_step(run, convergence.threshold)
    if converged is not None:
        return float(areas[steps <= converged].sum())
    return float(areas.sum() + max(0.0, convergence.budget - steps[-1]))


def compute_mean_learning_curve(history: pd.DataFrame, convergence: Convergence) -> pd.DataFrame:
    """Compute the learning curve of an ablation, averaged over runs: `step, runs_converged`, mean validation score.

    A run that has stopped counts with its last score. Without a threshold there is no column `runs_converged`.
    """
    scores = history.pivot(index="step", columns="seed", values=convergence.score_column).ffill()
    curve = pd.DataFrame({"step": scores.index})
    if convergence.threshold is not None:
        curve["runs_converged"] = convergence.has_converged(scores).sum(axis=1)
    curve[convergence.score_column] = scores.mean(axis=1).to_numpy()
    return curve
