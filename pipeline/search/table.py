"""A study as a table: a row per trial, with nothing in it that differs from run to run."""

import warnings
from dataclasses import asdict
from functools import partial
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from pipeline import switches
from pipeline.params import Ablation, Params
from pipeline.search import space
from pipeline.search.result import Result

STATES = {TrialState.COMPLETE: "complete", TrialState.RUNNING: "running", TrialState.WAITING: "waiting"}


def ablation_of_trial(params: Params, trial: FrozenTrial) -> Ablation | None:
    """What the trial trained; None if it was lost before the sampler had chosen everything."""
    try:
        return space.ablation(params, trial.params)
    except KeyError:
        return None


def ablations_by_trial(params: Params, study: optuna.Study) -> dict[int, Ablation]:
    """Trial -> what it trained, of those of which that is known."""
    found = {trial.number: ablation_of_trial(params, trial) for trial in study.get_trials(deepcopy=False)}
    return {number: ablation for number, ablation in found.items() if ablation is not None}


def trials(params: Params, study: optuna.Study) -> pd.DataFrame:
    """A row per trial, in order of their numbers: `trial, state`, its configuration (`switches.COLUMNS` and the other
    fields that the space lists), its result, `repeats` (the trial whose stored result it has) and `retries` (the lost
    trial that it ran again)."""
    example = _configuration(params, space.ablation(params, space.extreme_choices(params)[0])) | _outcome(_EXAMPLE)
    linked = ("repeats", "retries")
    whole = [name for name, value in example.items() if isinstance(value, int)]
    rows = [_row(params, trial) for trial in study.get_trials(deepcopy=False)]
    table = pd.DataFrame(rows, columns=["trial", "state", *example, *linked])
    return table.astype(dict.fromkeys([*whole, *linked], "Int64"))  # which a trial may lack


_EXAMPLE = Result(1, 0, 0.0, 0, 1, 0.0, 0.0, 0, 0)


def _row(params: Params, trial: FrozenTrial) -> dict[str, Any]:
    ablation, stored, first = ablation_of_trial(params, trial), trial.user_attrs.get("result"), original(trial)
    return {
        "trial": trial.number,
        "state": STATES.get(trial.state, "failed"),
        **(_configuration(params, ablation) if ablation else {}),
        **(_outcome(Result(**stored)) if stored else {}),
        "repeats": trial.user_attrs.get("repeats"),
        "retries": first if first != trial.number else None,
    }


def original(trial: FrozenTrial) -> int:
    """The number of the trial that this one runs again, whether its worker put it back or was lost; else its own."""
    lost = trial.system_attrs.get("retry_history", [trial.number])
    return int(trial.user_attrs.get("retries", lost[0]))


def _configuration(params: Params, ablation: Ablation) -> dict[str, Any]:
    fields = dict(ablation.model) | dict(ablation.training)
    return switches.columns(ablation) | {
        name: fields[name] for name in params.search.plain if name not in switches.COLUMNS
    }


def _outcome(result: Result) -> dict[str, Any]:
    """The result, the share right after the count that it is of."""
    counts = {"members": result.members, "converged": result.converged}
    return {**counts, "converged_share": result.converged_share, **asdict(result)}


def importances(study: optuna.Study) -> dict[str, dict[str, float]]:
    """Parameter -> objective -> importance (PED-ANOVA; of layers that not every trial has, the conditional one, arXiv
    2601.20800); empty where there are too few trials to say."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # scikit-learn comes along

    found: dict[str, dict[str, float]] = {}
    for index, objective in enumerate(study.metric_names or ()):
        sign = -1.0 if index == 0 else 1.0  # the evaluator looks for low values
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on few trials, and that it looks for low values, which it is given
            try:
                by_name = get_param_importances(
                    study,
                    evaluator=PedAnovaImportanceEvaluator(evaluate_on_local=False),
                    target=partial(_value, index=index, sign=sign),
                )
            except (ValueError, RuntimeError):
                continue
        for name, importance in by_name.items():
            found.setdefault(name, {})[objective] = round(float(importance), 9)
    # Optuna's own order of equals, and of what it sums, changes from process to process
    return dict(sorted(found.items(), key=lambda item: (*(-value for value in item[1].values()), item[0])))


def _value(trial: FrozenTrial, index: int, sign: float) -> float:
    return sign * trial.values[index]
