"""The Lightning module: how a population learns, when it is evaluated, and when a member stops."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pytorch_lightning import LightningModule
from torch import Tensor

from pipeline.dataset import IGNORED, is_correct
from pipeline.params import Ablation
from pipeline.params.score import EXACT_MATCH
from pipeline.training.convergence import Convergence, History
from pipeline.training.data import PopulationData
from pipeline.training.optimizers import build_optimizer, clip_gradients, gradient_norms, learning_rate_factor
from pipeline.training.population import Population

KEPT = ("history", "finished", "best", "snapshots", "loss_sum", "norm_sum", "steps_since")
"""What a checkpoint holds of the module beside its weights."""


def member_losses(
    logits: Float[Tensor, "member batch reads vocabulary"], targets: Int[Tensor, "*member batch reads"]
) -> Float[Tensor, " member"]:
    """Mean cross-entropy (nats per predicted token) of each member; targets of `NOTHING` do not count."""
    targets = targets.expand(logits.shape[:-1])
    losses = F.cross_entropy(logits.flatten(0, 2).float(), targets.flatten(), reduction="none")
    return losses.view(len(logits), -1).sum(1) / (targets != IGNORED).flatten(1).sum(1)


def answers_correct(
    logits: Float[Tensor, "member batch reads vocabulary"], targets: Int[Tensor, "batch reads"]
) -> Bool[Tensor, "member batch"]:
    """Whether every answer token is the arg-max given the true ones before it, which is what greedy decoding
    produces: the first wrong arg-max would be its first wrong token."""
    return is_correct(logits.argmax(-1), targets).all(-1) & logits.isfinite().all(-1).all(-1)


def rounded_as_in_history(values: Float[Tensor, " member"]) -> Float[Tensor, " member"]:
    """With the seven digits that a table has, so that who reads it decides what was decided here."""
    return torch.tensor([float(f"{value:.7g}") for value in values.tolist()], dtype=torch.float64)


def snapshot_steps(steps: int, count: int) -> frozenset[int]:
    """At most `count` steps between the first and the last, logarithmically spaced."""
    between = np.geomspace(1, steps, count + 2)[1:-1]
    return frozenset(int(step) for step in between.round()) - {steps}


class PopulationModule(LightningModule):
    """Trains all members of an ablation in one `fit`.

    A member stops when it has diverged, or when it has converged and the ablation says `stop_when_converged`: it is
    kept as it was at that evaluation, and the others go on without it. Of a task that is scored by bits, every member
    is kept as it was at its best evaluation: real data are few, and after that it only learns them by heart.

    Args:
        ablation: what is trained, and how.
        data: rows, which move to the device with the module.
        inputs: what a transformer must know of the rows.
        on_evaluation: told the new rows of the history after every evaluation.
    """

    def __init__(
        self,
        ablation: Ablation,
        data: PopulationData,
        *,
        inputs: dict[str, Any],
        on_evaluation: Callable[[History], None] = lambda rows: None,
    ) -> None:
        super().__init__()
        self.ablation = ablation
        self.data = data
        self.on_evaluation = on_evaluation
        self.convergence = Convergence.of(ablation)
        self.population = Population(
            ablation.model, ablation.training.seeds, compiled=ablation.training.compiled, **inputs
        )
        self.parameters_per_member = sum(parameter.numel() for parameter in self.population.skeleton.parameters())
        self.active = list(range(len(ablation.training.seeds)))
        self.scores: list[Float[np.ndarray, " seed"]] = []
        self.history: History = []
        self.finished: dict[int, dict[str, Tensor]] = {}
        self.best: dict[int, dict[str, Tensor]] = {}
        self.snapshot_steps = snapshot_steps(ablation.training.steps, ablation.training.snapshots)
        self.snapshots: dict[tuple[int, int], dict[str, Tensor]] = {}
        self.resumed: dict[str, Any] = {}
        """What a checkpoint says, if one is gone on from."""

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.population, self.ablation.training)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self.ablation.training)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        self.rows = self.data.training.to(self.device)
        self.validation_rows = self.data.validation.to(self.device)
        self._forget_steps()
        if self.resumed:
            self.steps_since = self.resumed["steps_since"]
            self.loss_sum, self.norm_sum = (self.resumed[name].to(self.device) for name in ("loss_sum", "norm_sum"))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """All that Lightning does not know of: who still trains, what was seen and kept."""
        checkpoint["population"] = {
            "active": self.active,
            "scores": [torch.from_numpy(scores) for scores in self.scores],
            **{name: getattr(self, name) for name in KEPT},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Before Lightning loads the weights, which have the shape of those that still train."""
        self.resumed = checkpoint["population"]
        self.active = self.resumed["active"]
        self.scores = [scores.numpy() for scores in self.resumed["scores"]]
        self.history, self.finished, self.best, self.snapshots = (self.resumed[name] for name in KEPT[:4])
        self.population.keep(torch.tensor(self.active))
        self.data.order.start = checkpoint["global_step"]

    def _forget_steps(self) -> None:
        self.loss_sum = torch.zeros(len(self.active), device=self.device)
        self.norm_sum = torch.zeros(len(self.active), device=self.device)
        self.steps_since = 0

    def training_step(self, batch: Int[Tensor, "member batch"], batch_index: int) -> Float[Tensor, ""]:
        rows = batch if len(self.active) == len(batch) else batch[self.active]
        examples = self.rows[rows]
        logits = self.population(examples.tokens, examples.positions, self.global_step, self.ablation.training.steps)
        losses = member_losses(logits, examples.targets)
        self.loss_sum += losses.detach()
        self.steps_since += 1
        return losses.sum()  # so that every member's gradient is that of its own loss

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        norms = gradient_norms(self.population)
        self.norm_sum += norms
        if self.ablation.training.gradient_clip is not None:
            clip_gradients(self.population, norms, self.ablation.training.gradient_clip)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        if self.global_step not in self.snapshot_steps:
            return
        for place, member in enumerate(self.active):
            weights = self.population.member_weights(place)
            self.snapshots[self.ablation.training.seeds[member], self.global_step] = {
                name: weight.bfloat16() for name, weight in weights.items()
            }

    def on_validation_epoch_start(self) -> None:
        self.validation_loss = torch.zeros(len(self.active), device=self.device)
        self.validation_right = torch.zeros(len(self.active), device=self.device)
        self.validation_tokens = torch.zeros((), device=self.device)

    def validation_step(self, rows: Int[Tensor, " batch"], batch_index: int) -> None:
        examples = self.validation_rows[rows]
        logits, targets = self.population(examples.tokens, examples.positions), examples.targets
        tokens_said = (targets != IGNORED).sum()
        self.validation_loss += member_losses(logits, targets) * tokens_said
        self.validation_tokens += tokens_said
        self.validation_right += answers_correct(logits, targets).sum(1)

    def on_validation_epoch_end(self) -> None:
        count = len(self.validation_rows)
        train_loss, gradient_norm, loss, right = (
            torch.stack(
                (
                    self.loss_sum / self.steps_since,
                    self.norm_sum / self.steps_since,
                    self.validation_loss / self.validation_tokens,
                    self.validation_right / count,
                )
            )
            .cpu()
            .double()
        )
        diverged = ~(train_loss + loss).isfinite()
        score = right if self.convergence.score == EXACT_MATCH else rounded_as_in_history(loss / math.log(2))
        optimizer: Any = self.optimizers()
        rows = [
            {
                "seed": self.ablation.training.seeds[member],
                "step": self.global_step,
                "train_loss": train_loss[place].item(),
                "validation_loss": loss[place].item(),
                self.convergence.column: score[place].item(),
                "gradient_norm": gradient_norm[place].item(),
                "learning_rate": optimizer.param_groups[0]["lr"],
                "diverged": int(diverged[place]),
            }
            for place, member in enumerate(self.active)
        ]
        for row in rows:
            if row["diverged"]:
                row |= dict.fromkeys(("train_loss", "validation_loss", "gradient_norm"), float("nan"))
        self.history += rows
        self.scores.append(np.full(len(self.ablation.training.seeds), np.nan))
        self.scores[-1][self.active] = score
        if not self.convergence.score.higher_is_better:
            self._keep_the_best()
        converged = torch.from_numpy(self.convergence.converged(self.scores)[-1][self.active])
        self._let_go(diverged | (converged if self.ablation.training.stop_when_converged else False), optimizer)
        self._forget_steps()
        self.on_evaluation(rows)

    def _keep_the_best(self) -> None:
        """Of the members whose last evaluation was their best so far."""
        *before, now = self.scores
        least = np.fmin.reduce([np.full_like(now, np.inf), *before])
        for place, member in enumerate(self.active):
            if now[member] < least[member]:
                self.best[member] = self.population.member_weights(place)

    def _let_go(self, stopping: Bool[Tensor, " member"], optimizer: Any) -> None:
        for place in stopping.nonzero().flatten().tolist():
            self.finished[self.active[place]] = self.population.member_weights(place)
        going_on = (~stopping).nonzero().flatten()
        self.active = [self.active[place] for place in going_on.tolist()]
        if not self.active:
            self.trainer.should_stop = True
        elif len(going_on) < len(stopping):
            self.population.keep(going_on.to(self.device), optimizer.optimizer)

    def final_weights(self) -> dict[int, dict[str, Tensor]]:
        """Seed -> weights, as each member was at its best where that is what counts, as it stopped, or as the last step
        left it."""
        last = {member: self.population.member_weights(place) for place, member in enumerate(self.active)}
        kept = last | self.finished | self.best
        return {seed: kept[member] for member, seed in enumerate(self.ablation.training.seeds)}
