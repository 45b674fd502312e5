"""What a cell's history says: which members converged, when, and where they ended."""

from typing import Any

import pandas as pd

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


def outcomes(history: pd.DataFrame, converged_at: float) -> pd.DataFrame:
    """One row per seed, in order of appearance: `seed, steps, converged, steps_to_converge, diverged,
    validation_exact_match` (the last two as of the member's last evaluation).

    A run converged when its validation exact match reached `converged_at` at any evaluation.
    """
    rows = []
    for seed, run in history.groupby("seed", sort=False):
        reached = run.loc[run["validation_exact_match"] >= converged_at, "step"]
        last = run.iloc[-1]
        rows.append(
            {
                "seed": seed,
                "steps": int(last["step"]),
                "converged": int(len(reached) > 0),
                "steps_to_converge": int(reached.iloc[0]) if len(reached) else None,
                "diverged": int(last["diverged"]),
                "validation_exact_match": float(last["validation_exact_match"]),
            }
        )
    return pd.DataFrame(rows).astype({"steps_to_converge": "Int64"})
