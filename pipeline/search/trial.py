"""Train a trial: a population, with the same code as the `train` stage."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pytorch_lightning import Callback, LightningModule, Trainer

from pipeline.dataset import Dataset
from pipeline.measurement.cost import cost
from pipeline.measurement.registry import MeasurementInput, draw_random_tokens
from pipeline.params import Ablation, Search
from pipeline.search.table import Records, Result
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.convergence import Convergence, mean_learning_curve, run_outcomes
from pipeline.training.fit import fit
from pipeline.training.population import build_initial_model


class GiveUp(Callback):
    """Stop a trial if after the share `at` of its `steps` no run has reached the validation score `below`."""

    def __init__(self, steps: int, at: float, below: float) -> None:
        self.step, self.below = steps * at, below
        self.gave_up = False

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        history: Any = module.history
        rule: Any = module.convergence
        if trainer.global_step < self.step or trainer.should_stop or not history:
            return
        if is_hopeless(rule.score.share([row[rule.column] for row in history]), self.below):
            self.gave_up = trainer.global_step < trainer.max_steps
            trainer.should_stop = True


def is_hopeless(scores: Sequence[float], below: float) -> bool:
    """Whether all scores are lower than `below`; NaN counts as 0."""
    return bool(np.nan_to_num(scores).max() < below)


def train(
    ablation: Ablation, data: Dataset, search: Search, *, checkpoints: Path | None = None
) -> tuple[Result, Records]:
    """Train the runs of a trial and return their result and mean learning curve.

    With a folder for `checkpoints` the training resumes where a killed worker stopped.
    """
    rule = GiveUp(ablation.training.steps, search.give_up_at, search.give_up_below)
    with _resuming(checkpoints, ablation, data) as kept:
        trained = fit(ablation, data, callbacks=[rule], checkpoints=kept)
    history = trained.history
    convergence = Convergence.for_ablation(ablation)
    runs = run_outcomes(history, convergence)
    free = ablation.model.residual_free
    result = Result(
        runs=len(runs),
        converged=int(runs["converged"].sum()),
        score=float(convergence.score.share(runs[convergence.score_column]).mean()),
        residuals_kept=2 * ablation.model.layers - len(free.attention) - len(free.mlp),
        parameters=trained.parameter_count,
        flops=_flops_per_step(ablation, data) * float(runs["steps"].sum()),
        steps=float(runs["steps"].mean()),
        given_up=int(rule.gave_up),
        diverged=int(runs["diverged"].sum()),
    )
    return result, _records(mean_learning_curve(history, convergence))


def confirm(ablation: Ablation, data: Dataset, seeds: Sequence[int], *, checkpoints: Path | None = None) -> Records:
    """Train an ablation with other seeds, each to the end of its budget; return a record per run."""
    training = ablation.training.model_copy(update={"seeds": list(seeds)})
    reseeded = ablation.model_copy(update={"training": training})
    with _resuming(checkpoints, reseeded, data) as kept:
        trained = fit(reseeded, data, checkpoints=kept)
    convergence = Convergence.for_ablation(reseeded)
    runs = run_outcomes(trained.history, convergence).astype(object)
    runs["score"] = convergence.score.share(runs.pop(convergence.score_column))
    return _records(runs.where(runs.notna(), None))


def _records(table: pd.DataFrame) -> Records:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _resuming(folder: Path | None, ablation: Ablation, data: Dataset) -> AbstractContextManager[Checkpoints | None]:
    return Checkpoints(folder, ablation, data.digests) if folder else nullcontext()


def _flops_per_step(ablation: Ablation, data: Dataset) -> float:
    model = build_initial_model(ablation.model, seed=ablation.training.seeds[0], **data.transformer_arguments)
    subject = MeasurementInput(
        model, ablation, data.examples["validation"], draw_random_tokens(0, data.input_length, len(data.vocabulary))
    )
    return float(cost(subject)["flops_per_step"].item())
