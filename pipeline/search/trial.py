"""Train the runs of a trial as one population, with the same code as the `train` stage."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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
    """Callback that stops a trial if no run has reached the validation score `min_score` after the share
    `after_share` of its `steps`."""

    def __init__(self, steps: int, after_share: float, min_score: float) -> None:
        self.first_checked_step, self.min_score = steps * after_share, min_score
        self.has_stopped_early = False

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        history: Any = module.history
        rule: Any = module.convergence
        if trainer.global_step < self.first_checked_step or trainer.should_stop or not history:
            return
        if is_hopeless(rule.score.as_share([row[rule.score_column] for row in history]), self.min_score):
            self.has_stopped_early = trainer.global_step < trainer.max_steps
            trainer.should_stop = True


def is_hopeless(scores: Sequence[float], min_score: float) -> bool:
    """Return True if all scores are lower than `min_score`; NaN counts as 0."""
    return bool(np.nan_to_num(scores).max() < min_score)


def train_trial(
    ablation: Ablation, data: Dataset, search: Search, *, checkpoints: Path | None = None
) -> tuple[TrialResult, TableRows]:
    """Train the runs of a trial, and return the trial's result and the rows of the runs' mean learning curve.

    If the folder `checkpoints` is given, the training resumes where a killed worker stopped.
    """
    early_stop = StopHopelessTrial(ablation.training.steps, search.give_up_at, search.give_up_below)
    with _open_checkpoints(checkpoints, ablation, data) as opened:
        trained = fit(ablation, data, callbacks=[early_stop], checkpoints=opened)
    history = trained.history
    convergence = Convergence.for_ablation(ablation)
    runs = compute_run_outcomes(history, convergence)
    free = ablation.model.residual_free
    result = TrialResult(
        runs=len(runs),
        converged=int(runs["converged"].sum()),
        score=float(convergence.score.as_share(runs[convergence.score_column]).mean()),
        residuals_kept=2 * ablation.model.layers - len(free.attention) - len(free.mlp),
        parameters=trained.parameter_count,
        flops=_compute_flops_per_step(ablation, data) * float(runs["steps"].sum()),
        steps=float(runs["steps"].mean()),
        given_up=int(early_stop.has_stopped_early),
        diverged=int(runs["diverged"].sum()),
    )
    return result, _convert_to_rows(compute_mean_learning_curve(history, convergence))


def train_with_fresh_seeds(
    ablation: Ablation, data: Dataset, seeds: Sequence[int], *, checkpoints: Path | None = None
) -> TableRows:
    """Train an ablation with these `seeds`, without stopping hopeless runs early, and return a row per run."""
    training = ablation.training.model_copy(update={"seeds": list(seeds)})
    reseeded = ablation.model_copy(update={"training": training})
    with _open_checkpoints(checkpoints, reseeded, data) as opened:
        trained = fit(reseeded, data, checkpoints=opened)
    convergence = Convergence.for_ablation(reseeded)
    runs = compute_run_outcomes(trained.history, convergence).astype(object)
    runs["score"] = convergence.score.as_share(runs.pop(convergence.score_column))
    return _convert_to_rows(runs.where(runs.notna(), None))


def _convert_to_rows(table: pd.DataFrame) -> TableRows:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _open_checkpoints(
    folder: Path | None, ablation: Ablation, data: Dataset
) -> AbstractContextManager[Checkpoints | None]:
    return Checkpoints(folder, ablation, data.digests) if folder else nullcontext()


def _compute_flops_per_step(ablation: Ablation, data: Dataset) -> float:
    model = build_initial_model(ablation.model, seed=ablation.training.seeds[0], **data.transformer_arguments)
    return float(cost(MeasurementInput(model, ablation, data.examples["validation"]))["flops_per_step"].item())
