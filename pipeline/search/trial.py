"""Train the runs of a trial as one population, with the same code as the `train` stage."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning import Callback, LightningModule, Trainer

from pipeline.dataset import Dataset
from pipeline.measurement.cost import cost
from pipeline.measurement.registry import MeasurementInput
from pipeline.params import Ablation, Search
from pipeline.search.table import TableRows, TrialResult
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.convergence import Convergence, compute_mean_learning_curve, compute_run_outcomes
from pipeline.training.fit import fit
from pipeline.training.population import build_initial_model


class StopHopelessTrial(Callback):
    """Callback that stops a trial if no run has reached the validation score `search.give_up_below` after the share
    `search.give_up_at` of its `steps`; a score of NaN counts as 0."""

    def __init__(self, search: Search) -> None:
        self.first_checked_step, self.min_score = search.steps * search.give_up_at, search.give_up_below
        self.has_stopped_early = False

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        history: Any = module.history
        rule: Any = module.convergence
        if trainer.global_step < self.first_checked_step or trainer.should_stop or not history:
            return
        scores = rule.score.as_share([row[rule.score_column] for row in history])
        if np.nan_to_num(scores).max() < self.min_score:
            self.has_stopped_early = trainer.global_step < trainer.max_steps
            trainer.should_stop = True


def train_trial(ablation: Ablation, data: Dataset, search: Search, checkpoints: Path) -> tuple[TrialResult, TableRows]:
    """Train the runs of a trial, and return the trial's result and the rows of the runs' mean learning curve.

    The training resumes from the folder `checkpoints` where a killed worker stopped.
    """
    early_stop = StopHopelessTrial(search)
    with Checkpoints(checkpoints, ablation, data.digests) as opened:
        trained = fit(ablation, data, callbacks=[early_stop], checkpoints=opened)
    convergence = Convergence.for_ablation(ablation)
    runs = compute_run_outcomes(trained.history, convergence)
    free = ablation.model.residual_free
    model = build_initial_model(ablation.model, seed=ablation.training.seeds[0], **data.transformer_arguments)
    costs = cost(MeasurementInput(model, ablation, data.examples["validation"]))
    result = TrialResult(
        runs=len(runs),
        converged=int(runs["converged"].sum()),
        score=float(convergence.score.as_share(runs[convergence.score_column]).mean()),
        residuals_kept=2 * ablation.model.layers - len(free.attention) - len(free.mlp),
        parameters=trained.parameter_count,
        flops=costs["flops_per_step"].item() * float(runs["steps"].sum()),
        steps=float(runs["steps"].mean()),
        given_up=int(early_stop.has_stopped_early),
        diverged=int(runs["diverged"].sum()),
    )
    return result, compute_mean_learning_curve(trained.history, convergence).to_dict("records")


def train_with_fresh_seeds(ablation: Ablation, data: Dataset, seeds: Sequence[int], checkpoints: Path) -> TableRows:
    """Train an ablation with these `seeds`, without stopping hopeless runs early, and return a row per run."""
    training = ablation.training.model_copy(update={"seeds": list(seeds)})
    reseeded = ablation.model_copy(update={"training": training})
    with Checkpoints(checkpoints, reseeded, data.digests) as opened:
        trained = fit(reseeded, data, checkpoints=opened)
    convergence = Convergence.for_ablation(reseeded)
    runs = compute_run_outcomes(trained.history, convergence).astype(object)
    runs["score"] = convergence.score.as_share(runs.pop(convergence.score_column))
    return runs.where(runs.notna(), None).to_dict("records")
