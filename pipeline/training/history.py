"""What a cell's history says: which members converged, when, and where they ended. Convergence is decided here, on how
many validation rows are right, and nowhere else."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from pipeline.params import Cell

History = list[dict[str, Any]]
"""What training says of itself: one row per seed and evaluation, with the columns of `history.csv`."""

COLUMNS = (
    "seed",
    "step",
    "train_loss",
    "validation_loss",
    "validation_exact_match",
    "gradient_norm",
    "learning_rate",
    "diverged",
)
"""The columns of `history.csv`: a row per seed and evaluation."""


@dataclass(frozen=True)
class Convergence:
    """When a run has converged: in so many evaluations in a row at least the share `at` of `rows` is right, exactly."""

    at: float
    rows: int
    in_a_row: int = 1

    @classmethod
    def of(cls, cell: Cell) -> "Convergence":
        """The rule of a cell."""
        return cls(cell.training.converged_at, cell.task.validation_size, cell.training.converged_for)

    @property
    def required(self) -> int:
        """How many rows must be right. The share is meant as it is written: 0.9 of 10 rows are 9."""
        return math.ceil(Fraction(str(self.at)) * self.rows)

    def right(self, exact_match: Any) -> Int[np.ndarray, "*shape"]:
        """The counts behind shares of the rows, be they rounded to float32 or to seven digits; none for what is no
        number."""
        return np.rint(np.nan_to_num(np.asarray(exact_match, float)) * self.rows).astype(int)

    def reached(self, exact_match: Any) -> Bool[np.ndarray, "*shape"]:
        """Whether evaluations with these shares of right rows count."""
        return self.right(exact_match) >= self.required

    def converged(self, exact_match: Any) -> Bool[np.ndarray, "evaluations ..."]:
        """Whether runs with these shares of right rows, an evaluation after the other, have converged by each."""
        reached = self.reached(exact_match)
        streak, found = np.zeros(reached.shape[1:], int), np.zeros_like(reached)
        for evaluation, counts in enumerate(reached):
            streak = np.where(counts, streak + 1, 0)
            found[evaluation] = streak >= self.in_a_row
        return np.logical_or.accumulate(found)


def outcomes(history: pd.DataFrame, convergence: Convergence) -> pd.DataFrame:
    """One row per seed, in order of appearance: `seed, steps, converged, steps_to_converge, diverged,
    validation_exact_match` (the last two as of the member's last evaluation).

    A run converged at the first of the evaluations in a row that count, whatever comes later.
    """
    rows = []
    for seed, run in history.groupby("seed", sort=False):
        converged = convergence.converged(run["validation_exact_match"])
        first = converged.argmax() + 1 - convergence.in_a_row
        last = run.iloc[-1]
        rows.append(
            {
                "seed": seed,
                "steps": int(last["step"]),
                "converged": int(converged[-1]),
                "steps_to_converge": int(run["step"].iloc[first]) if converged[-1] else None,
                "diverged": int(last["diverged"]),
                "validation_exact_match": float(last["validation_exact_match"]),
            }
        )
    return pd.DataFrame(rows).astype({"steps_to_converge": "Int64"})


def cell_curve(history: pd.DataFrame, convergence: Convergence) -> pd.DataFrame:
    """A row per `step`: how many `members_converged` as far as is known by then, and their mean
    `validation_exact_match`, in which a member that has stopped counts as it was when it did."""
    exact = history.pivot(index="step", columns="seed", values="validation_exact_match").ffill()
    converged = convergence.converged(exact).sum(axis=1)
    return pd.DataFrame(
        {"step": exact.index, "members_converged": converged, "validation_exact_match": exact.mean(axis=1)}
    )
