"""Tables of a search's trials, read from Optuna's study. Needs no Lightning."""

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

STATE_NAMES = {TrialState.COMPLETE: "complete", TrialState.RUNNING: "running", TrialState.WAITING: "waiting"}
"""Name in trials.csv of each state of a trial; every other state is named `failed`."""
TableRows = list[dict[str, Any]]
"""Rows of a table, each as column -> value, as Optuna's database stores them."""


@dataclass(frozen=True)
class TrialResult:
    """Result of training all runs of a trial. All values are finite, even if runs diverged."""

    runs: int
    converged: int
    """Number of runs that converged."""
    score: float
    """Mean validation score of the runs at their last step, in [0, 1] (`Score.as_share`)."""
    residuals_kept: int
    """Number of residual connections in the model; an intact layer has two."""
    parameters: int
    """Number of parameters of the model."""
    flops: float
    """Training FLOPs, summed over the runs."""
    steps: float
    """Training steps, averaged over the runs."""
    given_up: int
    """1 if the trial was stopped early because all scores were low, else 0."""
    diverged: int
    """Number of runs that diverged."""

    @property
    def converged_share(self) -> float:
        """Share of the trial's runs that converged, in [0, 1]."""
        return self.converged / self.runs

    @property
    def objective_values(self) -> tuple[float, float]:
        """Values of the search's two objectives.

        The first is maximised: share of runs that converged, where the mean score decides between equal numbers of
        runs. The second is minimised: number of residual connections kept.
        """
        return (self.converged + self.score) / (self.runs + 1), float(self.residuals_kept)


def ablations_by_trial(params: Params, study: optuna.Study) -> dict[int, Ablation]:
    """Return, for each trial number, the ablation that the trial trained.

    Trials that ended before the sampler chose all parameters are left out.
    """
    ablations = {}
    for trial in study.get_trials(deepcopy=False):
        with suppress(KeyError):
            ablations[trial.number] = space.build_ablation(params, trial.params)
    return ablations


def build_trial_table(params: Params, study: optuna.Study) -> pd.DataFrame:
    """Return a table with a row per trial, in the order of trial numbers.

    Columns: `trial, state`, the configuration (`switches.COLUMNS` and the other fields that the space lists), the
    fields of `TrialResult`, `repeats` (number of an earlier trial with the same configuration, whose result was copied)
    and `retries` (number of the interrupted trial that was run again).
    """
    first = _configuration_columns(params, space.build_ablation(params, space.extreme_choices(params)[0]))
    example = first | _result_columns(TrialResult(1, 0, 0.0, 0, 1, 0.0, 0.0, 0, 0))
    linked = ("repeats", "retries")
    integers = [name for name, value in example.items() if isinstance(value, int)]
    ablations = ablations_by_trial(params, study)
    rows = [_build_trial_row(params, trial, ablations.get(trial.number)) for trial in study.get_trials(deepcopy=False)]
    table = pd.DataFrame(rows, columns=["trial", "state", *example, *linked])
    return table.astype(dict.fromkeys([*integers, *linked], "Int64"))  # integers that may be missing


def _build_trial_row(params: Params, trial: FrozenTrial, ablation: Ablation | None) -> dict[str, Any]:
    result, first = trial.user_attrs.get("result"), first_attempt_number(trial)
    return {
        "trial": trial.number,
        "state": STATE_NAMES.get(trial.state, "failed"),
        **(_configuration_columns(params, ablation) if ablation else {}),
        **(_result_columns(TrialResult(**result)) if result else {}),
        "repeats": trial.user_attrs.get("repeats"),
        "retries": first if first != trial.number else None,
    }


def first_attempt_number(trial: FrozenTrial) -> int:
    """Return the number of the interrupted trial that `trial` runs again, or the number of `trial` itself if none."""
    history = trial.system_attrs.get("retry_history", [trial.number])
    return int(trial.user_attrs.get("retries", history[0]))


def _configuration_columns(params: Params, ablation: Ablation) -> dict[str, Any]:
    fields = dict(ablation.model) | dict(ablation.training)
    others = [name for name in params.search.value_lists if name not in switches.SWITCH_COLUMNS]
    return switches.switch_columns(ablation) | {name: fields[name] for name in others}


def _result_columns(result: TrialResult) -> dict[str, Any]:
    """Return a trial's result as column -> value, with the share of converged runs after their number."""
    counts = {"runs": result.runs, "converged": result.converged}
    return {**counts, "converged_share": result.converged_share, **asdict(result)}


def store_confirmation(study: optuna.Study, trial: int, runs: TableRows) -> None:
    """Store in `study` the runs with which a trial's ablation was trained again with fresh seeds."""
    study.set_user_attr(f"confirmed-{trial}", runs)


def read_confirmations(study: optuna.Study, trials: Sequence[int], seeds: Sequence[int]) -> dict[int, pd.DataFrame]:
    """Return, for each trial number, a table with a row per run with fresh seeds.

    Columns: `seed, steps, converged, steps_to_converge, diverged, score`. Trials that were not trained again with
    exactly these `seeds` are left out.
    """
    stored = study.user_attrs
    runs = {trial: pd.DataFrame(stored[f"confirmed-{trial}"]) for trial in trials if f"confirmed-{trial}" in stored}
    return {trial: table for trial, table in runs.items() if seeds and list(table["seed"]) == list(seeds)}


def compute_importances(study: optuna.Study) -> dict[str, dict[str, float]]:
    """Return, as parameter -> objective -> importance, how much each searched parameter influences each objective.

    Importances are computed by PED-ANOVA, for parameters of layers that only some trials have by its conditional form
    (arXiv 2601.20800). The result is empty if there are too few trials.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # imports scikit-learn

    evaluator = PedAnovaImportanceEvaluator(evaluate_on_local=False)
    by_parameter: dict[str, dict[str, float]] = {}
    for index, objective in enumerate(study.metric_names or ()):
        sign = -1.0 if index == 0 else 1.0  # the evaluator takes low values for good ones
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about few trials, and about low values
            try:
                target = partial(_signed_objective, index=index, sign=sign)
                of_objective = get_param_importances(study, evaluator=evaluator, target=target)
            except (ValueError, RuntimeError):
                continue
        for name, importance in of_objective.items():
            by_parameter.setdefault(name, {})[objective] = round(float(importance), 9)
    # Optuna's order of equal values, and of the terms that it sums, changes from process to process
    return dict(sorted(by_parameter.items(), key=lambda item: (*(-value for value in item[1].values()), item[0])))


def _signed_objective(trial: FrozenTrial, index: int, sign: float) -> float:
    return sign * trial.values[index]
