"""What the files of a trained cell say, as tracking shows it: curves, outcomes, numbers and a description."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import files
from pipeline.measurement.intervals import exact_interval
from pipeline.refusal import Refused
from pipeline.training.history import outcomes

CURVES = ("train_loss", "validation_loss", "validation_exact_match", "gradient_norm", "learning_rate")
CELL_CURVES = ("members_converged", "validation_exact_match")
MEMBER_METRICS = ("converged", "diverged", "steps", "steps_to_converge", "test_exact_match")


@dataclass(frozen=True)
class TrainedCell:
    """A trained cell, as far as its files were written."""

    folder: Path
    config: dict[str, Any]
    """`config.json`."""
    history: pd.DataFrame
    outcomes: pd.DataFrame
    """A row per seed: when it converged, and with `evaluation` its test accuracy too."""
    trained: str
    """Digest of the weights' digests and the history."""
    evaluation: Path | None = None
    evaluated: str = ""
    """Digest of the evaluation."""

    def curve(self, seed: int | None) -> pd.DataFrame:
        """The evaluations of a member, or of the cell as a whole (None): `step` and what was measured."""
        if seed is None:
            return cell_curve(self.history, self.config["training"]["converged_at"])
        return self.history.loc[self.history["seed"] == seed, ["step", *CURVES]]

    def outcome(self, seed: int) -> pd.Series:
        """What became of a member."""
        return self.outcomes[self.outcomes["seed"] == seed].iloc[0]


def read(folder: Path, evaluation: Path | None) -> TrainedCell:
    """Read a cell, without its weights. An evaluation that is not there, or of an earlier training, is left out.

    Raises:
        Refused: a file is missing or damaged.
    """
    made_by = f"python -m pipeline train {folder.name}"
    config = files.read_json(folder / "config.json", made_by=made_by)
    history = files.read_csv(folder / "history.csv", made_by=made_by)
    try:
        whole = [config[key] for key in ("ablation", "task", "model", "training", "dataset", "weights")]
        learned = outcomes(history, config["training"]["converged_at"])
        seeds = set(config["training"]["seeds"])
    except (KeyError, TypeError) as error:
        raise Refused(f"{folder}: damaged (no {error}); make it again with `{made_by}`") from None
    if set(learned["seed"]) != seeds:
        raise Refused(f"{folder / 'history.csv'}: has other seeds than config.json; make it again with `{made_by}`")
    if missing := [name for name in sorted(whole[-1]) if not (folder / name).is_file()]:
        raise Refused(f"{folder / missing[0]}: no such file; `{made_by}` makes it")
    results = [config["weights"], files.digest((folder / "history.csv").read_bytes())]
    trained = files.digest(json.dumps(results, sort_keys=True).encode())
    if evaluation is not None and evaluation.exists():
        tested = files.read_csv(evaluation, made_by=f"python -m pipeline evaluate {folder.name}")
        if _is_of(tested, learned):
            evaluated = files.digest(evaluation.read_bytes())
            return TrainedCell(folder, config, history, tested, trained, evaluation, evaluated)
    return TrainedCell(folder, config, history, learned, trained)


def _is_of(tested: pd.DataFrame, learned: pd.DataFrame) -> bool:
    """Whether an evaluation is of the members that lie there now, not of those of an earlier training."""
    same = ["steps", "validation_exact_match"]
    if not {"seed", *MEMBER_METRICS, *same} <= set(tested):
        return False
    left, right = (table.set_index("seed")[same].astype(float).sort_index() for table in (tested, learned))
    return bool(left.index.equals(right.index) and np.allclose(left, right, rtol=1e-5))


def cell_curve(history: pd.DataFrame, converged_at: float) -> pd.DataFrame:
    """A row per `step`: `members_converged` by then, and their mean `validation_exact_match`, in which a member that
    has stopped counts as it was when it did."""
    reached = history.pivot(index="step", columns="seed", values="validation_exact_match").ffill()
    converged = (reached >= converged_at).cummax().sum(axis=1)
    return pd.DataFrame(
        {"step": reached.index, "members_converged": converged, "validation_exact_match": reached.mean(axis=1)}
    )


def member_metrics(outcome: pd.Series) -> dict[str, float]:
    """The final numbers of a member; what it does not have is left out."""
    names = [
        name
        for name in outcome.index
        if name in MEMBER_METRICS or (name.startswith(("digit_", "carries_")) and not name.endswith("_examples"))
    ]
    return {name: float(outcome[name]) for name in names if pd.notna(outcome[name])}


def cell_metrics(outcomes: pd.DataFrame) -> dict[str, float]:
    """The final numbers of a cell: how many of its members converged, and how exact they are."""
    converged, runs = int(outcomes["converged"].sum()), len(outcomes)
    low, high = exact_interval(converged, runs)
    metrics = {
        "runs": float(runs),
        "converged": float(converged),
        "converged_share": converged / runs,
        "converged_low": low,
        "converged_high": high,
    }
    if converged:
        metrics["steps_to_converge_median"] = float(outcomes["steps_to_converge"].median())
    if "test_exact_match" in outcomes:
        exact = outcomes["test_exact_match"]
        metrics |= {f"test_exact_match_{kind}": float(getattr(exact, kind)()) for kind in ("mean", "min", "max")}
        metrics["test_exact_match"] = float(exact.median())
    return metrics


def verdict(outcome: pd.Series) -> str:
    """What became of a member, in a word."""
    return "diverged" if outcome["diverged"] else "yes" if outcome["converged"] else "no"


def description(config: Mapping[str, Any], outcomes: pd.DataFrame) -> str:
    """A cell in two sentences of Markdown."""
    converged, runs = int(outcomes["converged"].sum()), len(outcomes)
    model, free = config["model"], config["model"]["residual_free"]
    tested = ""
    if "test_exact_match" in outcomes:
        exact = outcomes["test_exact_match"]
        tested = f" Test exact match: {exact.min():.1%} to {exact.max():.1%}, median {exact.median():.1%}."
    return (
        f"**{converged} of {runs} seeds converged** (validation exact match of at least "
        f"{config['training']['converged_at']}).{tested}\n\nPositional encoding: {model['positional']}; attention: "
        f"{model['attention']}; layers: {model['layers']}; without residual connection (layers from 0): "
        f"attention {free['attention'] or 'none'}, MLP {free['mlp'] or 'none'}."
    )
