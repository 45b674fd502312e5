"""What a trial is worth: a population trained with the same code as the `train` stage."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning import Callback, LightningModule, Trainer

from pipeline.dataset import Dataset
from pipeline.measurement.cost import cost
from pipeline.measurement.registry import MeasurementInput, random_rows
from pipeline.params import Ablation, Search
from pipeline.search.result import Curve, Outcomes, Result
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.convergence import Convergence, mean_curve, run_outcomes
from pipeline.training.fit import fit
from pipeline.training.population import initial_model


class GiveUp(Callback):
    """Stops a hopeless trial: after the share `at` of its steps no member's score on validation was ever `below` or
    more."""

    def __init__(self, steps: int, at: float, below: float) -> None:
        self.step, self.below = steps * at, below
        self.gave_up = False

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        history: Any = module.history
        rule: Any = module.convergence
        if trainer.global_step < self.step or trainer.should_stop or not history:
            return
        if hopeless(rule.score.share([row[rule.column] for row in history]), self.below):
            self.gave_up = trainer.global_step < trainer.max_steps
            trainer.should_stop = True


def hopeless(scores: Sequence[float], below: float) -> bool:
    """Whether nothing so far came up to `below`."""
    return bool(np.nan_to_num(scores).max() < below)


def train(
    ablation: Ablation, data: Dataset, search: Search, *, checkpoints: Path | None = None
) -> tuple[Result, Curve]:
    """Train the trial's members, going on where a killed worker stopped; their result and learning curve."""
    rule = GiveUp(ablation.training.steps, search.give_up_at, search.give_up_below)
    with _keeping(checkpoints, ablation, data) as kept:
        trained = fit(ablation, data, callbacks=[rule], kept=kept)
    history = trained.history
    convergence = Convergence.of(ablation)
    ends = run_outcomes(history, convergence)
    free = ablation.model.residual_free
    result = Result(
        members=len(ends),
        converged=int(ends["converged"].sum()),
        score=float(convergence.score.share(ends[convergence.column]).mean()),
        residuals_kept=2 * ablation.model.layers - len(free.attention) - len(free.mlp),
        parameters=trained.parameters,
        flops=_flops_per_step(ablation, data) * float(ends["steps"].sum()),
        steps=float(ends["steps"].mean()),
        given_up=int(rule.gave_up),
        diverged=int(ends["diverged"].sum()),
    )
    curve = mean_curve(history, convergence).to_dict("records")
    return result, [{str(name): value for name, value in row.items()} for row in curve]


def confirm(ablation: Ablation, data: Dataset, seeds: Sequence[int], *, checkpoints: Path | None = None) -> Outcomes:
    """Train an ablation again with these seeds, each to the end of its budget; what became of them."""
    training = ablation.training.model_copy(update={"seeds": list(seeds)})
    again = ablation.model_copy(update={"training": training})
    with _keeping(checkpoints, again, data) as kept:
        trained = fit(again, data, kept=kept)
    rule = Convergence.of(again)
    ends = run_outcomes(trained.history, rule).astype(object)
    ends["score"] = rule.score.share(ends.pop(rule.column))
    known = ends.where(ends.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in known]


def _keeping(folder: Path | None, ablation: Ablation, data: Dataset) -> AbstractContextManager[Checkpoints | None]:
    return Checkpoints(folder, ablation, data.digests) if folder else nullcontext()


def _flops_per_step(ablation: Ablation, data: Dataset) -> float:
    model = initial_model(ablation.model, seed=ablation.training.seeds[0], **data.inputs)
    subject = MeasurementInput(
        model, ablation, data.examples["validation"], random_rows(0, data.length, len(data.vocabulary))
    )
    return float(cost(subject)["flops_per_step"].item())
