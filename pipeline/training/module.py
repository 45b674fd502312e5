"""Lightning module that trains a population: training step, evaluation, and stopping of members."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pytorch_lightning import LightningModule
from torch import Tensor

from pipeline.dataset import IGNORED_TARGET, is_correct
from pipeline.params import Ablation
from pipeline.params.score import EXACT_MATCH
from pipeline.training import optimizers
from pipeline.training.artifact import Weights
from pipeline.training.convergence import Convergence, HistoryRows
from pipeline.training.data import PopulationData
from pipeline.training.population import Population

CHECKPOINTED = ("active_members", "history", "scores", "kept_weights", "snapshots", "training_sums")
"""Names of the attributes of `PopulationModule` that a checkpoint stores, besides what Lightning stores itself."""


def mean_member_losses(
    logits: Float[Tensor, "member batch reads vocabulary"], targets: Int[Tensor, "*member batch reads"]
) -> Float[Tensor, " member"]:
    """Compute the mean cross-entropy of each member, in nats per token; targets `IGNORED_TARGET` do not count."""
    targets = targets.expand(logits.shape[:-1])
    losses = F.cross_entropy(logits.flatten(0, 2).float(), targets.flatten(), reduction="none")
    return losses.view(len(logits), -1).sum(1) / (targets != IGNORED_TARGET).flatten(1).sum(1)


def has_correct_answer(
    logits: Float[Tensor, "member batch reads vocabulary"], targets: Int[Tensor, "batch reads"]
) -> Bool[Tensor, "member batch"]:
    """Return True for each example that a member answers correctly by greedy decoding.

    Decoding token by token is not needed: an answer is correct exactly if each of its tokens is the arg-max after the
    true tokens before it, because the first wrong arg-max would be the first wrong token.
    """
    return is_correct(logits.argmax(-1), targets).all(-1) & logits.isfinite().all(-1).all(-1)


def round_as_in_history(values: Float[Tensor, " member"]) -> Float[Tensor, " member"]:
    """Round scores to the seven digits that history.csv stores, so that convergence recomputed from the file agrees."""
    return torch.tensor([float(f"{value:.7g}") for value in values.tolist()], dtype=torch.float64)


def choose_snapshot_steps(step_count: int, max_count: int) -> frozenset[int]:
    """Return the training steps after which snapshots are taken: at most `max_count`, spaced logarithmically."""
    between = np.geomspace(1, step_count, max_count + 2)[1:-1]
    return frozenset(int(step) for step in between.round()) - {step_count}


class PopulationModule(LightningModule):
    """Lightning module that trains all members of an ablation, one per seed, in one `fit`.

    A member stops when it diverges, or when it converges and `stop_when_converged` is set. Its weights at that
    evaluation are kept, and the others continue without it. For a task scored in bits the weights of the best
    evaluation are kept instead, because real data are few and models overfit later.

    `on_evaluation` is called after every evaluation with the new rows of the history.
    """

    def __init__(self, ablation: Ablation, data: PopulationData, on_evaluation: Callable[[HistoryRows], None]) -> None:
        super().__init__()
        self.ablation, self.data, self.on_evaluation = ablation, data, on_evaluation
        self.convergence = Convergence.for_ablation(ablation)
        training, arguments = ablation.training, data.transformer_arguments
        self.population = Population(
            ablation.model, training.seeds, average=training.average, compiled=training.compiled, **arguments
        )
        self.active_members = list(range(len(training.seeds)))
        """Indices of the members that still train, counted in the list of all seeds."""
        self.history: HistoryRows = []
        self.scores: list[Float[Tensor, " seed"]] = []
        """Validation scores `[seed]` of each evaluation so far; NaN for members that had stopped before."""
        self.kept_weights: dict[int, Weights] = {}
        """Index of a member -> weights when it stopped; for a task scored in bits, at its best evaluation so far."""
        self.snapshot_steps = choose_snapshot_steps(training.steps, training.snapshots)
        self.snapshots: dict[tuple[int, int], Weights] = {}
        """(Seed, step) -> weights after that training step, in bfloat16."""
        self.training_sums = torch.zeros(2, len(self.active_members))
        """Sums `[2, member]` of the losses and of the gradient norms since the last evaluation."""

    def configure_optimizers(self) -> Any:
        optimizer = optimizers.build_optimizer(self.population, self.ablation.training)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: optimizers.compute_learning_rate_factor(step, self.ablation.training)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        self.training_examples = self.data.training_examples.to(self.device)
        self.validation_examples = self.data.validation_examples.to(self.device)
        self.training_sums = self.training_sums.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["population"] = {name: getattr(self, name) for name in CHECKPOINTED}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the module from a checkpoint, and drop stopped members before Lightning loads the others' weights."""
        for name, value in checkpoint["population"].items():
            setattr(self, name, value)
        self.population.keep_members(self.active_members)
        self.data.batch_order.batches_to_skip = checkpoint["global_step"]

    def training_step(self, batch: Int[Tensor, "member batch"], batch_index: int) -> Float[Tensor, ""]:
        indices = batch if len(self.active_members) == len(batch) else batch[self.active_members]
        examples = self.training_examples[indices]
        logits = self.population(examples.tokens, examples.positions, self.global_step)
        losses = mean_member_losses(logits, examples.targets)
        self.training_sums[0] += losses.detach()
        return losses.sum()  # so that the gradient of every member is that of its own loss

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        norms = optimizers.compute_gradient_norms(self.population)
        self.training_sums[1] += norms
        if self.ablation.training.gradient_clip is not None:
            optimizers.clip_gradients(self.population, norms, self.ablation.training.gradient_clip)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.population.update_average(self.global_step)  # which Lightning increments after this method

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        if self.global_step in self.snapshot_steps:
            for index, member in enumerate(self.active_members):
                weights = self.population.copy_member_weights(index)
                rounded = {name: weight.bfloat16() for name, weight in weights.items()}
                self.snapshots[self.ablation.training.seeds[member], self.global_step] = rounded

    def on_validation_epoch_start(self) -> None:
        self.validation_loss, self.validation_correct = torch.zeros(2, len(self.active_members), device=self.device)
        self.validation_tokens = torch.zeros((), device=self.device)

    def validation_step(self, indices: Int[Tensor, " batch"], batch_index: int) -> None:
        examples = self.validation_examples[indices]
        logits, targets = self.population(examples.tokens, examples.positions), examples.targets
        predicted_tokens = (targets != IGNORED_TARGET).sum()
        self.validation_loss += mean_member_losses(logits, targets) * predicted_tokens
        self.validation_tokens += predicted_tokens
        self.validation_correct += has_correct_answer(logits, targets).sum(1)

    def on_validation_epoch_end(self) -> None:
        optimizer: Any = self.optimizers()
        means = (
            *(self.training_sums / self.ablation.training.evaluate_every),
            self.validation_loss / self.validation_tokens,
            self.validation_correct / len(self.validation_examples),
        )
        train_loss, gradient_norm, loss, exact_match = torch.stack(means).cpu().double()
        score = exact_match if self.convergence.score == EXACT_MATCH else round_as_in_history(loss / math.log(2))
        diverged = ~(train_loss + loss).isfinite()
        rows = [
            {
                "seed": self.ablation.training.seeds[member],
                "step": self.global_step,
                "train_loss": math.nan if diverged[index] else train_loss[index].item(),
                "validation_loss": math.nan if diverged[index] else loss[index].item(),
                self.convergence.score_column: score[index].item(),
                "gradient_norm": math.nan if diverged[index] else gradient_norm[index].item(),
                "learning_rate": optimizer.param_groups[0]["lr"],
                "diverged": int(diverged[index]),
            }
            for index, member in enumerate(self.active_members)
        ]
        self.history += rows
        self.scores.append(torch.full([len(self.ablation.training.seeds)], torch.nan, dtype=torch.double))
        self.scores[-1][self.active_members] = score
        scores = torch.stack(self.scores)
        converged = torch.from_numpy(self.convergence.has_converged(scores.numpy())[-1])[self.active_members]
        is_stopping = diverged | converged if self.ablation.training.stop_when_converged else diverged
        is_best = (scores.nan_to_num(torch.inf).argmin(0) == len(scores) - 1)[self.active_members]
        is_kept = is_stopping if self.convergence.score.higher_is_better else is_best
        for index, member in enumerate(self.active_members):
            if is_kept[index]:
                self.kept_weights[member] = self.population.copy_member_weights(index)
        self._drop_members(is_stopping, optimizer)
        self.training_sums = torch.zeros(2, len(self.active_members), device=self.device)
        self.on_evaluation(rows)

    def _drop_members(self, is_stopping: Bool[Tensor, " member"], optimizer: Any) -> None:
        remaining = (~is_stopping).nonzero().flatten().tolist()
        self.active_members = [self.active_members[index] for index in remaining]
        if not remaining:
            self.trainer.should_stop = True
        elif len(remaining) < len(is_stopping):
            self.population.keep_members(remaining, optimizer.optimizer)

    def collect_final_weights(self) -> dict[int, Weights]:
        """Return the trained weights by seed: of the best evaluation, of the stop, or after the last step."""
        last = {member: self.population.copy_member_weights(index) for index, member in enumerate(self.active_members)}
        weights = last | self.kept_weights
        return {seed: weights[member] for member, seed in enumerate(self.ablation.training.seeds)}
