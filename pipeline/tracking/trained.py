"""What the files of a trained ablation say, as its runs show it: curves, numbers, words, and which files they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import files, switches
from pipeline.errors import UserError
from pipeline.params import Ablation, task
from pipeline.reporting.intervals import exact_interval
from pipeline.training.artifact import CONFIG, HISTORY, Artifact, weights_file
from pipeline.training.convergence import Convergence, history_columns, mean_curve, run_outcomes

MEMBER_METRICS = ("converged", "diverged", "steps", "steps_to_converge", "test_exact_match", "test_bits")

Row = dict[str, Any]


@dataclass(frozen=True)
class TrainedAblation:
    """A trained ablation, as far as its files were written. Methods take a seed, or None for the parent run."""

    folder: Path
    ablation: Ablation
    """As it was trained."""
    digests: Mapping[str, str]
    """Of the dataset's files."""
    history: pd.DataFrame
    outcomes: pd.DataFrame
    """A row per seed: when it converged, and with `evaluation` its test accuracy too."""
    trained: str
    """What training wrote, in a word."""
    evaluation: Path | None = None
    evaluated: str = ""
    """What the evaluation is, in a word."""

    def files(self, seed: int | None) -> list[Path]:
        """What training wrote."""
        return [
            self.folder / CONFIG,
            self.folder / (HISTORY if seed is None else weights_file(seed)),
        ]

    def curve(self, seed: int | None) -> list[Row]:
        """A row per evaluation: its `step`, and what was measured."""
        if seed is None:
            return rows(mean_curve(self.history, Convergence.of(self.ablation)))
        return rows(self.history.loc[self.history["seed"] == seed, ["step", *curves(self.ablation)]])

    def metrics(self, seed: int | None) -> dict[str, float]:
        """The final numbers; what there is none of is left out."""
        if seed is None:
            return _ablation_metrics(self.outcomes)
        numbers = [str(name) for name in self.outcomes.select_dtypes("number")]
        tested = numbers[numbers.index("test_examples") + 1 :] if "test_examples" in numbers else []
        shown = [*MEMBER_METRICS, *(name for name in tested if not name.endswith("_examples"))]
        outcome = self._outcome(seed)
        return {name: float(outcome[name]) for name in shown if pd.notna(outcome.get(name))}

    def tags(self, seed: int | None) -> dict[str, str]:
        """What became of it, in words."""
        if seed is None:
            return {"mlflow.note.content": self._description()}
        outcome = self._outcome(seed)
        if outcome["diverged"]:
            return {"converged": "diverged"}
        return {} if pd.isna(outcome["converged"]) else {"converged": "yes" if outcome["converged"] else "no"}

    def _outcome(self, seed: int) -> pd.Series:
        return self.outcomes[self.outcomes["seed"] == seed].iloc[0]

    def _description(self) -> str:
        """Two sentences of Markdown."""
        rule, runs, said = Convergence.of(self.ablation), len(self.outcomes), []
        if rule.at is not None:
            score = f"{rule.score.words} of at {'least' if rule.score.higher_is_better else 'most'}"
            converged = int(self.outcomes["converged"].sum())
            said.append(f"**{converged} of {runs} seeds converged** (validation {score} {rule.at}).")
        if "test_exact_match" in self.outcomes:
            exact = self.outcomes["test_exact_match"]
            said.append(f"Test exact match: {exact.min():.1%} to {exact.max():.1%}, median {exact.median():.1%}.")
        if "test_bits" in self.outcomes:
            bits = self.outcomes["test_bits"]
            said.append(f"Test bits per token: {bits.min():.3f} to {bits.max():.3f}, mean {bits.mean():.3f}.")
        return f"{' '.join(said)}\n\n{self.ablation.dataset}: {switches.describe(self.ablation, {})}."


def curves(ablation: Ablation) -> list[str]:
    """Those of a member: all that its history says of an evaluation, but for whose and when it is."""
    return [name for name in history_columns(ablation.task.score) if name not in ("seed", "step", "diverged")]


def rows(table: pd.DataFrame) -> list[Row]:
    """A table by rows."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def read(folder: Path, ablation: Ablation, evaluation: Path | None) -> TrainedAblation:
    """Read what `ablation` was trained to, without the weights; how it was trained is what its files say. An evaluation
    that is not there, or of an earlier training, is left out.

    Raises:
        UserError: a file is missing or damaged.
    """
    there = Artifact.read(folder, task, name=ablation.name)
    history, seal = there.history, there.digest
    if there.folder and (missing := [name for name in there.folder.digests if not (folder / name).is_file()]):
        raise UserError(f"{folder / missing[0]}: no such file; `{there.folder.made_by}` makes it")
    if evaluation is not None and evaluation.exists():
        tested = files.open_verified(evaluation.parent, made_by=f"python -m pipeline evaluate {ablation.name}")
        if tested.subject == seal:
            table = tested.csv(evaluation.name)
            return TrainedAblation(
                folder, there.ablation, there.dataset_digests, history, table, seal, evaluation, tested.digest
            )
    learned = run_outcomes(history, Convergence.of(there.ablation))
    return TrainedAblation(folder, there.ablation, there.dataset_digests, history, learned, seal)


def _ablation_metrics(outcomes: pd.DataFrame) -> dict[str, float]:
    """How many of the members converged, where that has a meaning, and how good they are."""
    runs = len(outcomes)
    metrics = {"runs": float(runs)}
    if outcomes["converged"].notna().all():
        converged = int(outcomes["converged"].sum())
        low, high = exact_interval(converged, runs)
        metrics |= {
            "converged": float(converged),
            "converged_share": converged / runs,
            "converged_low": low,
            "converged_high": high,
        }
        if converged:
            metrics["steps_to_converge_median"] = float(outcomes["steps_to_converge"].median())
    if "test_exact_match" in outcomes:
        exact = outcomes["test_exact_match"]
        metrics |= {f"test_exact_match_{kind}": float(exact.agg(kind)) for kind in ("mean", "min", "max")}
        metrics["test_exact_match"] = float(exact.median())
    if "test_bits" in outcomes:
        metrics["test_bits"] = float(outcomes["test_bits"].mean())
    return metrics
