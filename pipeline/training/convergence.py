"""What an ablation's history says: which members converged, when, and where they ended. Convergence is decided here and
nowhere else: on how many validation rows are right, or on bits per token, as the task is scored."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from pipeline.params import Ablation
from pipeline.params.task import Scored

History = list[dict[str, Any]]
"""What training says of itself: one row per seed and evaluation, with the columns of `history.csv`."""


def history_columns(scored_by: Scored = "exact_match") -> list[str]:
    """The columns of `history.csv`: a row per seed and evaluation."""
    losses, score = ("train_loss", "validation_loss"), f"validation_{scored_by}"
    return ["seed", "step", *losses, score, "gradient_norm", "learning_rate", "diverged"]


@dataclass(frozen=True)
class Convergence:
    """When a run has converged: in so many evaluations in a row at least the share `at` of `rows` is right, exactly;
    or, scored by bits, a token takes `at` of them at most. Where that is None, no run ever has."""

    at: float | None
    rows: int
    in_a_row: int = 1
    scored_by: Scored = "exact_match"

    @classmethod
    def of(cls, ablation: Ablation) -> "Convergence":
        """The rule of an ablation."""
        task = ablation.task
        return cls(ablation.converged_at, task.validation_size, ablation.training.converged_for, task.scored_by)

    @property
    def score(self) -> str:
        """The column of the history that it is decided on."""
        return f"validation_{self.scored_by}"

    @property
    def required(self) -> int:
        """How many rows must be right. The share is meant as it is written: 0.9 of 10 rows are 9."""
        return math.ceil(Fraction(str(self.at)) * self.rows)

    def right(self, exact_match: Any) -> Int[np.ndarray, "*shape"]:
        """The counts behind shares of the rows, be they rounded to float32 or to seven digits; none for what is no
        number."""
        return np.rint(np.nan_to_num(np.asarray(exact_match, float)) * self.rows).astype(int)

    def reached(self, scores: Any) -> Bool[np.ndarray, "*shape"]:
        """Whether evaluations with these scores (shares of right rows, or bits) count."""
        if self.scored_by == "bits":
            return np.asarray(scores, float) <= (-np.inf if self.at is None else self.at)
        return self.right(scores) >= self.required

    def share(self, scores: Any) -> Float[np.ndarray, "*shape"]:
        """Scores between 0 and 1, more is better: of rows that are right; or the probability (its geometric mean) that
        is given to what comes."""
        scores = np.asarray(scores, float)
        return 2.0**-scores if self.scored_by == "bits" else scores

    def converged(self, scores: Any) -> Bool[np.ndarray, "evaluations ..."]:
        """Whether runs with these scores, an evaluation after the other, have converged by each."""
        reached = self.reached(scores)
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
        converged = convergence.converged(run[convergence.score])
        first = converged.argmax() + 1 - convergence.in_a_row
        last = run.iloc[-1]
        rows.append(
            {
                "seed": seed,
                "steps": int(last["step"]),
                "converged": None if convergence.at is None else int(converged[-1]),
                "steps_to_converge": int(run["step"].iloc[first]) if converged[-1] else None,
                "diverged": int(last["diverged"]),
                convergence.score: float(
                    run[convergence.score].min() if convergence.scored_by == "bits" else last[convergence.score]
                ),
            }
        )
    whole = ["steps_to_converge", *(["converged"] if convergence.at is None else [])]  # that may be missing
    return pd.DataFrame(rows).astype(dict.fromkeys(whole, "Int64"))


def kept_steps(history: pd.DataFrame, convergence: Convergence) -> dict[int, int]:
    """Seed -> the step after which its weights are kept: its last, or where bits count, that of its best evaluation
    (the last, if none gave a number)."""
    kept = history.drop_duplicates("seed", keep="last")
    if convergence.scored_by == "bits":
        best = history.dropna(subset=[convergence.score]).sort_values(convergence.score, kind="stable")
        kept = pd.concat([best, kept]).drop_duplicates("seed")
    return dict(zip(kept["seed"], kept["step"].astype(int), strict=True))


def mean_curve(history: pd.DataFrame, convergence: Convergence) -> pd.DataFrame:
    """A row per `step`: how many `members_converged` as far as is known by then (where that has a meaning), and their
    mean score, in which a member that has stopped counts as it was when it did."""
    scores = history.pivot(index="step", columns="seed", values=convergence.score).ffill()
    converged = convergence.converged(scores).sum(axis=1)
    curve = pd.DataFrame({"step": scores.index, "members_converged": converged, convergence.score: scores.mean(axis=1)})
    return curve.drop(columns=["members_converged"] if convergence.at is None else [])
