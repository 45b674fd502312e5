"""A worker runs trials, as many workers as you like, on any machine.

A trial trains the runs of a pattern, rung by rung, until it is decided whether the pattern converges.
"""

import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.trial import TrialState, create_trial
from pytorch_lightning import Callback, LightningModule, Trainer
from sqlalchemy.engine import URL

from pipeline.dataset import Dataset
from pipeline.params import Ablation, Params
from pipeline.reporting.ceiling import is_proved_impossible
from pipeline.search import plan, race, space, study
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.convergence import (
    Convergence,
    compute_area_above_curve,
    compute_mean_learning_curve,
    compute_run_outcomes,
)
from pipeline.training.fit import fit

Rung = dict[str, Any]
"""Results of a rung: `runs`, a row per run; `curve`, pairs of a training step and the mean score of the runs at it."""


class StopHopelessRuns(Callback):
    """Callback that stops each run that a pruner of Optuna finds without hope, from the run's own scores in [0, 1]."""

    def __init__(self, pruner: BasePruner) -> None:
        self.pruner, self.study = pruner, optuna.create_study(direction="maximize")

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        population: Any = module  # a PopulationModule
        curves: dict[int, dict[int, float]] = {}
        for row in population.history:
            score = population.convergence.score.as_share([row[population.convergence.score_column]])
            curves.setdefault(row["seed"], {})[row["step"]] = float(np.nan_to_num(score)[0])
        hopeless = []
        for member in population.active_members:
            curve = curves[population.ablation.training.seeds[member]]
            trial = create_trial(state=TrialState.RUNNING, intermediate_values=curve)
            hopeless.append(trainer.global_step < trainer.max_steps and self.pruner.prune(self.study, trial))
        if any(hopeless):
            for index, member in enumerate(population.active_members):
                population.kept_weights[member] = population.population.copy_member_weights(index)
            population._drop_members(torch.tensor(hopeless), population.optimizers())
            population.training_sums = torch.zeros(2, len(population.active_members), device=population.device)


def train_rung(ablation: Ablation, data: Dataset, pruner: BasePruner, checkpoints: Path) -> Rung:
    """Train the runs of a rung as one population; it resumes from `checkpoints` where a killed worker stopped."""
    with Checkpoints(checkpoints, ablation, data.digests) as opened:
        trained = fit(ablation, data, callbacks=[StopHopelessRuns(pruner)], checkpoints=opened)
    rule = Convergence.for_ablation(ablation)
    runs = compute_run_outcomes(trained.history, rule)
    stopped = (runs["converged"] == 0) & (runs["diverged"] == 0) & (runs["steps"] < rule.budget)
    ends = trained.history.drop_duplicates("seed", keep="last").assign(step=rule.budget)
    kept_scores = ends[ends["seed"].isin(runs.loc[stopped, "seed"])]  # last scores of stopped runs, at the budget
    curves = pd.concat([trained.history, kept_scores]).groupby("seed", sort=False)
    runs = runs.assign(
        area=[compute_area_above_curve(run, rule) for _, run in curves],
        score=np.nan_to_num(rule.score.as_share(runs[rule.score_column])),
        stopped=stopped.astype(int),
    )
    columns = ["seed", "steps", "converged", "steps_to_converge", "area", "score", "stopped", "diverged"]
    curve = compute_mean_learning_curve(trained.history, rule)
    scores = np.nan_to_num(rule.score.as_share(curve[rule.score_column]))
    rows = runs[columns].astype(object)
    return {
        "runs": rows.where(rows.notna(), None).to_dict("records"),
        "curve": [[int(step), float(score)] for step, score in zip(curve["step"], scores, strict=True)],
    }


@dataclass
class Worker:
    """Runs trials of a search, one after the other."""

    params: Params
    study: optuna.Study
    url: URL
    train: Callable[[Ablation], Rung]
    """Function that trains the runs of a rung and returns their results."""

    def run_trials(self) -> int:
        """Run trials until the search is complete, and return the number of trials run by this worker."""
        trials_run = 0
        while (outcome := study.retry_storage_failures(self._run_next_trial)) != "search complete":
            if outcome == "ran a trial":
                trials_run += 1
            else:
                time.sleep(1.0)
        return trials_run

    def _run_next_trial(self) -> Literal["ran a trial", "waited", "search complete"]:
        self.is_settled = False  # True: the trial has a result, or another worker has failed it
        with ExitStack() as self.lock:
            self.lock.enter_context(study.exclusive_access(self.url))  # so that no two workers take the last trial
            self._fail_lost_trials()
            if plan.queue_trials(self.params, self.study):
                return "search complete"
            if not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                return "waited"
            try:
                self.study.optimize(self._evaluate, n_trials=1)
            except (ValueError, AssertionError):  # Optuna's, if another worker took this one for dead, failed the trial
                if not self.is_settled:
                    raise
                return "waited"
            return "ran a trial"

    def _evaluate(self, trial: optuna.Trial) -> float:
        self.lock.close()
        trial.set_user_attr("worker", f"{platform.node()} {os.getpid()}")
        try:
            value = self._run_rungs(trial)
        except UpdateFinishedTrialError:
            self.is_settled = True
            raise
        self.is_settled = True
        return value

    def _run_rungs(self, trial: optuna.Trial) -> float:
        """Run a trial, store its results in it, and return the value that the study minimises."""
        layers, search = trial.user_attrs["position"][0], self.params.search
        ablation = space.build_ablation(self.params, layers, space.suggest_choices(trial, self.params, layers))
        runs, converged, count = list[dict[str, Any]](), 0, 0
        for number, seeds in enumerate([] if is_proved_impossible(ablation) else race.split_into_rungs(search.seeds)):
            name = f"rung {number}"
            if (rung := trial.user_attrs.get(name)) is None:  # else a worker that was stopped has trained it
                training = ablation.training.model_copy(update={"seeds": seeds})
                rung = self.train(ablation.model_copy(update={"training": training}))
                trial.set_user_attr(name, rung)
            for step, score in rung["curve"]:
                trial.report(score, number * search.steps + step)
            runs += rung["runs"]
            converged, count = sum(run["converged"] for run in runs), len(runs)
            if race.decide(converged, count, search.converges_share) != "undecided":
                break
        result = f"{converged} of {count} runs converged" if runs else "blind to order by proof"
        print(f"trial {trial.number}: layers {layers}, {trial.params}: {result}", file=sys.stderr)
        probability = race.probability_of_convergence(converged, count, search.converges_share) if runs else 0.0
        trial.set_constraint("converges", 0.5 - probability)  # violated if it more probably does not
        area = np.mean([run["area"] for run in runs[: race.FIRST_RUNG]]) / search.steps if runs else 1.0
        return race.count_residuals(ablation) + float(area)

    def _fail_lost_trials(self) -> None:
        """Fail the trials of dead workers, also of those that died before their first heartbeat."""
        optuna.storages.fail_stale_trials(self.study)
        grace = timedelta(seconds=study.MAX_MISSED_HEARTBEATS * self.params.search.heartbeat)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            started = trial.datetime_start or datetime.now()
            if "worker" not in trial.user_attrs and datetime.now() - started > grace:
                self.study.tell(trial.number, state=TrialState.FAIL)
