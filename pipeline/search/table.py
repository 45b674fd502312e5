"""A study as a table: a row per trial, with nothing in it that differs from run to run."""

import warnings
from functools import partial
from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from pipeline.params import Cell, Params
from pipeline.search import space
from pipeline.search.result import Result

STATES = {TrialState.COMPLETE: "complete", TrialState.RUNNING: "running", TrialState.WAITING: "waiting"}
RESULTS = tuple(Result.__dataclass_fields__)


def cell_of(params: Params, trial: FrozenTrial) -> Cell | None:
    """What the trial trained; None if it was lost before the sampler had chosen everything."""
    try:
        return space.cell(params, trial.params)
    except KeyError:
        return None


def trials(params: Params, study: optuna.Study) -> pd.DataFrame:
    """A row per trial, in the order of their numbers: `trial, state`, what it was, what became of it, `repeats` (the
    trial whose stored result it is) and `retries` (the lost trial that it ran again)."""
    rows = [_row(params, trial) for trial in study.get_trials(deepcopy=False)]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(dict.fromkeys(_WHOLE, "Int64"))


_COLUMNS = (
    *("trial", "state", "layers", "heads", "width", "learning_rate", "optimizer", "positional", "attention"),
    *("residual_free_attention", "residual_free_mlp"),
    *("members", "converged", "converged_share", "validation_exact_match", "residuals_kept", "parameters", "flops"),
    *("steps", "given_up", "diverged", "repeats", "retries"),
)

_WHOLE = (
    *("layers", "heads", "width", "members", "converged", "residuals_kept", "parameters", "given_up", "diverged"),
    *("repeats", "retries"),
)
"""Columns of whole numbers that a trial may lack."""


def _row(params: Params, trial: FrozenTrial) -> dict[str, Any]:
    row: dict[str, Any] = {"trial": trial.number, "state": STATES.get(trial.state, "failed")}
    cell = cell_of(params, trial)
    if cell is not None:
        model = cell.model
        row |= {name: getattr(model, name) for name in ("layers", "heads", "width", "positional", "attention")}
        row |= {name: getattr(cell.training, name) for name in ("learning_rate", "optimizer")}
        row["residual_free_attention"] = " ".join(map(str, model.residual_free.attention))
        row["residual_free_mlp"] = " ".join(map(str, model.residual_free.mlp))
    if stored := trial.user_attrs.get("result"):
        result = Result(**stored)
        row |= stored | {"converged_share": result.converged_share}
    lost = trial.system_attrs.get("retry_history", [trial.user_attrs.get("retries")])
    return row | {"repeats": trial.user_attrs.get("repeats"), "retries": lost[0]}


def importances(study: optuna.Study) -> dict[str, dict[str, float]]:
    """Parameter -> objective -> importance (PED-ANOVA; of layers that not every trial has, the conditional one, arXiv
    2601.20800); empty where there are too few trials to say."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # scikit-learn comes along

    found: dict[str, dict[str, float]] = {}
    for index, objective in enumerate(study.metric_names or ("converged", "minimized")):
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
