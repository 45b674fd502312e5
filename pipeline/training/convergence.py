"""What an ablation's history says: which members converged, when, and where they ended. Convergence is decided here and
nowhere else: on how many validation rows are right, or on bits per token, as the task is scored."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from pipeline.params import Ablation
from pipeline.params.score import EXACT_MATCH, Score

History = list[dict[str, Any]]
"""What training says of itself: one row per seed and evaluation, with the columns of `history.csv`."""


def history_columns(score: Score = EXACT_MATCH) -> list[str]:
    """The columns of `history.csv`: a row per seed and evaluation."""
    losses = ("train_loss", "validation_loss")
    return ["seed", "step", *losses, score.column("validation"), "gradient_norm", "learning_rate", "diverged"]


@dataclass(frozen=True)
class Convergence:
    """When a run has converged: in so many evaluations in a row at least the share `at` of `rows` is right, exactly;
    or, scored by bits, a token takes `at` of them at most. Where that is None, no run ever has."""

    at: float | None
    rows: int
    in_a_row: int = 1
    score: Score = EXACT_MATCH

    @classmethod
    def of(cls, ablation: Ablation) -> "Convergence":
        """The rule of an ablation."""
        task = ablation.task
        return cls(ablation.converged_at, task.validation_size, ablation.training.converged_for, task.score)

    @property
    def column(self) -> str:
        """The column of the history that holds the score."""
        return self.score.column("validation")

    def converged(self, scores: Any) -> Bool[np.ndarray, "evaluations ..."]:
        """Whether runs with these scores, an evaluation after the other, have converged by each."""
        reached = self.score.reached(scores, self.at, self.rows)
        streak, found = np.zeros(reached.shape[1:], int), np.zeros_like(reached)
        for evaluation, counts in enumerate(reached):
            streak = np.where(counts, streak + 1, 0)
            found[evaluation] = streak >= self.in_a_row
        return np.logical_or.accumulate(found)


def run_outcomes(history: pd.DataFrame, convergence: Convergence) -> pd.DataFrame:
    """One row per seed, in order of appearance: `seed, steps, converged, steps_to_converge, diverged,
    validation_exact_match` (the last two as of the member's last evaluation), or `validation_bits`, of its best one.

    A run converged at the first of the evaluations in a row that count, whatever comes later.
    """
    rows = []
    for seed, run in history.groupby("seed", sort=False):
        converged = convergence.converged(run[convergence.column])
        first = converged.argmax() + 1 - convergence.in_a_row
        last = run.iloc[-1]
        rows.append(
            {
                "seed": seed,
                "steps": int(last["step"]),
                "converged": None if convergence.at is None else int(converged[-1]),
                "steps_to_converge": int(run["step"].iloc[first]) if converged[-1] else None,
                "diverged": int(last["diverged"]),
                convergence.column: float(
                    last[convergence.column] if convergence.score.higher_is_better else run[convergence.column].min()
                ),
            }
        )
    whole = ["steps_to_converge", *(["converged"] if convergence.at is None else [])]  # that may be missing
    return pd.DataFrame(rows).astype(dict.fromkeys(whole, "Int64"))


def kept_steps(history: pd.DataFrame, convergence: Convergence) -> dict[int, int]:
    """Seed -> the step after which its weights are kept: its last, or where bits count, that of its best evaluation
    (the last, if none gave a number)."""
    kept = history.drop_duplicates("seed", keep="last")
    if not convergence.score.higher_is_better:
        best = history.dropna(subset=[convergence.column]).sort_values(convergence.column, kind="stable")
        kept = pd.concat([best, kept]).drop_duplicates("seed")
    return dict(zip(kept["seed"], kept["step"].astype(int), strict=True))


def mean_curve(history: pd.DataFrame, convergence: Convergence) -> pd.DataFrame:
    """A row per `step`: how many `members_converged` as far as is known by then (where that has a meaning), and their
    mean score, in which a member that has stopped counts as it was when it did."""
    scores = history.pivot(index="step", columns="seed", values=convergence.column).ffill()
    converged = convergence.converged(scores).sum(axis=1)
    curve = pd.DataFrame(
        {"step": scores.index, "members_converged": converged, convergence.column: scores.mean(axis=1)}
    )
    return curve.drop(columns=["members_converged"] if convergence.at is None else [])
