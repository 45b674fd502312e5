"""Tables of a search's trials, read from Optuna's study. Needs no Lightning."""

import warnings
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from pipeline import switches
from pipeline.params import Ablation, Params
from pipeline.search import space

TableRows = list[dict[Hashable, Any]]
"""Rows of a table, each as column -> value, as pandas returns them and Optuna's database stores them."""


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
    flops: float
    """Training FLOPs, summed over the runs."""
    steps: float
    """Training steps, averaged over the runs."""
    given_up: int
    """1 if the trial was stopped early because all scores were low, else 0."""
    diverged: int
    """Number of runs that diverged."""

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

    Columns: `trial, state`, the configuration (`switches.SWITCH_COLUMNS` and the other fields in the space), the
    fields of `TrialResult`, `repeats` (number of an earlier trial with the same configuration, whose result was copied)
    and `retries` (number of the interrupted trial that was run again).
    """
    ablations, rows = ablations_by_trial(params, study), []
    for trial in study.get_trials(deepcopy=False):
        state = "failed" if trial.state == TrialState.FAIL else trial.state.name.lower()
        row = {"trial": trial.number, "state": state, "repeats": trial.user_attrs.get("repeats")}
        if trial.number in ablations:
            row |= _configuration_columns(params, ablations[trial.number])
        if "result" in trial.user_attrs:
            row |= _result_columns(TrialResult(**trial.user_attrs["result"]))
        if (first := first_attempt_number(trial)) != trial.number:
            row["retries"] = first
        rows.append(row)
    example = _configuration_columns(params, space.build_ablation(params, space.extreme_choices(params)[0]))
    example |= _result_columns(TrialResult(1, 0, 0.0, 0, 1, 0.0, 0.0, 0, 0))
    table = pd.DataFrame(rows, columns=["trial", "state", *example, "repeats", "retries"])
    integers = [name for name, value in example.items() if isinstance(value, int)]
    return table.astype(dict.fromkeys([*integers, "repeats", "retries"], "Int64"))  # integers that may be missing


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
    share = {"runs": result.runs, "converged": result.converged, "converged_share": result.converged / result.runs}
    return share | asdict(result)


def compute_importances(study: optuna.Study) -> dict[str, dict[str, float]]:
    """Return, as parameter -> objective -> importance, how much each searched parameter influences each objective.

    Importances are computed by PED-ANOVA, for parameters of layers that only some trials have by its conditional form
    (arXiv 2601.20800). The result is empty if there are too few trials.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # imports scikit-learn

    evaluator = PedAnovaImportanceEvaluator(evaluate_on_local=False)
    by_parameter: dict[str, dict[str, float]] = {}
    low_is_good = {"converged": lambda trial: -trial.values[0], "residuals_kept": lambda trial: trial.values[1]}
    for objective, target in low_is_good.items():
        with warnings.catch_warnings(), suppress(ValueError, RuntimeError):  # too few trials
            warnings.simplefilter("ignore")  # about few trials, and about low values
            for name, importance in get_param_importances(study, evaluator=evaluator, target=target).items():
                by_parameter.setdefault(name, {})[objective] = round(float(importance), 9)
    # Optuna's order of equal values, and of the terms that it sums, changes from process to process
    return dict(sorted(by_parameter.items(), key=lambda item: (*(-value for value in item[1].values()), item[0])))
