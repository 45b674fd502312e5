"""A study as tables that are the same in every run. Needs no Lightning."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from pipeline import switches
from pipeline.params import Ablation, Params
from pipeline.search import space

STATES = {TrialState.COMPLETE: "complete", TrialState.RUNNING: "running", TrialState.WAITING: "waiting"}
Records = list[dict[str, Any]]
"""Rows of a table, as a storage keeps them."""


@dataclass(frozen=True)
class Result:
    """Result of a trial; finite even if runs diverged."""

    runs: int
    converged: int
    """Runs that converged."""
    score: float
    """Validation score in [0, 1] (`Score.share`): mean over runs, at their last step."""
    residuals_kept: int
    """Residual connections in the model, two a layer."""
    parameters: int
    flops: float
    """Training FLOPs of all runs."""
    steps: float
    """Training steps: mean over runs."""
    given_up: int
    """1 if the trial was stopped as hopeless, else 0."""
    diverged: int
    """Runs that diverged."""

    @property
    def converged_share(self) -> float:
        """Share of the runs that converged."""
        return self.converged / self.runs

    @property
    def values(self) -> tuple[float, float]:
        """Values of the two objectives.

        To maximise: runs that converged, ties broken by their mean score. To minimise: residual connections kept.
        """
        return (self.converged + self.score) / (self.runs + 1), float(self.residuals_kept)


def ablations_by_trial(params: Params, study: optuna.Study) -> dict[int, Ablation]:
    """Trial number -> the ablation it trained, except for trials that ended before the sampler chose all parameters."""
    ablations = {}
    for trial in study.get_trials(deepcopy=False):
        with suppress(KeyError):
            ablations[trial.number] = space.ablation(params, trial.params)
    return ablations


def trials(params: Params, study: optuna.Study) -> pd.DataFrame:
    """A row per trial, in order of their numbers: `trial, state`, its configuration (`switches.COLUMNS` and the other
    fields that the space lists), its result, `repeats` (the trial whose stored result it has) and `retries` (the lost
    trial that it ran again)."""
    first = _configuration(params, space.ablation(params, space.extreme_choices(params)[0]))
    example = first | _outcome(Result(1, 0, 0.0, 0, 1, 0.0, 0.0, 0, 0))
    linked = ("repeats", "retries")
    integers = [name for name, value in example.items() if isinstance(value, int)]
    ablations = ablations_by_trial(params, study)
    rows = [_row(params, trial, ablations.get(trial.number)) for trial in study.get_trials(deepcopy=False)]
    table = pd.DataFrame(rows, columns=["trial", "state", *example, *linked])
    return table.astype(dict.fromkeys([*integers, *linked], "Int64"))  # integers that may be missing


def _row(params: Params, trial: FrozenTrial, ablation: Ablation | None) -> dict[str, Any]:
    result, first = trial.user_attrs.get("result"), first_attempt(trial)
    return {
        "trial": trial.number,
        "state": STATES.get(trial.state, "failed"),
        **(_configuration(params, ablation) if ablation else {}),
        **(_outcome(Result(**result)) if result else {}),
        "repeats": trial.user_attrs.get("repeats"),
        "retries": first if first != trial.number else None,
    }


def first_attempt(trial: FrozenTrial) -> int:
    """Number of the trial that this one runs again, because its worker put it back or died; else its own number."""
    history = trial.system_attrs.get("retry_history", [trial.number])
    return int(trial.user_attrs.get("retries", history[0]))


def _configuration(params: Params, ablation: Ablation) -> dict[str, Any]:
    fields = dict(ablation.model) | dict(ablation.training)
    others = [name for name in params.search.value_lists if name not in switches.SWITCH_COLUMNS]
    return switches.switch_columns(ablation) | {name: fields[name] for name in others}


def _outcome(result: Result) -> dict[str, Any]:
    """The result's columns, with the share of converged runs after their count."""
    counts = {"runs": result.runs, "converged": result.converged}
    return {**counts, "converged_share": result.converged_share, **asdict(result)}


def store_confirmation(study: optuna.Study, trial: int, runs: Records) -> None:
    """Store the outcome of training a trial's ablation again with fresh seeds."""
    study.set_user_attr(f"confirmed-{trial}", runs)


def confirmations(study: optuna.Study, trials: Sequence[int], seeds: Sequence[int]) -> dict[int, pd.DataFrame]:
    """Trial number -> its runs with fresh seeds: `seed, steps, converged, steps_to_converge, diverged, score`.

    Trials that were not trained again with exactly these seeds are left out.
    """
    stored = study.user_attrs
    runs = {trial: pd.DataFrame(stored[f"confirmed-{trial}"]) for trial in trials if f"confirmed-{trial}" in stored}
    return {trial: table for trial, table in runs.items() if seeds and list(table["seed"]) == list(seeds)}


def importances(study: optuna.Study) -> dict[str, dict[str, float]]:
    """Parameter -> objective -> importance by PED-ANOVA; empty if there are too few trials.

    For parameters of layers that only some trials have it is the conditional importance (arXiv 2601.20800).
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # imports scikit-learn

    evaluator = PedAnovaImportanceEvaluator(evaluate_on_local=False)
    by_parameter: dict[str, dict[str, float]] = {}
    for index, objective in enumerate(study.metric_names or ()):
        sign = -1.0 if index == 0 else 1.0  # the evaluator takes low values for good ones
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about few trials, and about low values
            try:
                target = partial(_signed_value, index=index, sign=sign)
                of_objective = get_param_importances(study, evaluator=evaluator, target=target)
            except (ValueError, RuntimeError):
                continue
        for name, importance in of_objective.items():
            by_parameter.setdefault(name, {})[objective] = round(float(importance), 9)
    # Optuna's order of equal values, and of the terms that it sums, changes from process to process
    return dict(sorted(by_parameter.items(), key=lambda item: (*(-value for value in item[1].values()), item[0])))


def _signed_value(trial: FrozenTrial, index: int, sign: float) -> float:
    return sign * trial.values[index]
