"""Optimizers of a population: AdamW alone, or Muon for the hidden matrices and AdamW for all other parameters.

AdamW treats every number alone, so stacking members changes nothing. Muon treats whole matrices, so its Newton-Schulz
iteration is batched here over members and over layers of equal shape.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.params import Training
from pipeline.params.training import OptimizerName
from pipeline.training.population import Population

MUON_MOMENTUM = 0.95
ADAMW_RATE_SHARE = 0.3
"""Learning rate of the parameters that Muon leaves to AdamW, as a share of Muon's."""
NEWTON_SCHULZ_PRECISION = {"cuda": torch.bfloat16}
"""Device type -> number format of Muon's Newton-Schulz iteration. Other devices use float32, because many processors
multiply ten times slower in bfloat16."""


class MuonAdamW(torch.optim.AdamW):
    """Optimizer that applies Muon (Keller Jordan 2024) to parameter groups with `muon: True`, and AdamW to all others.

    Muon's parameters are stacked matrices `[member, rows, columns]`. Every member is updated as by `torch.optim.Muon`
    with default settings.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group.get("muon"):
                self._step_muon(group)
        super().step()
        return loss

    def _step_muon(self, group: dict[str, Any]) -> None:
        wide_updates: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for parameter in group["params"]:
            gradient, state = parameter.grad, self.state[parameter]
            parameter.grad = None  # so that AdamW leaves the parameter alone
            if not state:  # AdamW expects that every state has a step
                state |= {"momentum": torch.zeros_like(parameter), "step": torch.zeros(())}
            state["momentum"].lerp_(gradient, 1 - MUON_MOMENTUM)
            update = gradient.lerp(state["momentum"], MUON_MOMENTUM)
            update = update.to(NEWTON_SCHULZ_PRECISION.get(update.device.type, torch.float32))
            wide = update.mT if update.shape[-2] > update.shape[-1] else update
            wide_updates[wide.shape].append((parameter, wide))
        for pairs in wide_updates.values():
            orthogonal = orthogonalise_rows(torch.cat([wide for _, wide in pairs])).chunk(len(pairs))
            for (parameter, _), update in zip(pairs, orthogonal, strict=True):
                rows, columns = parameter.shape[-2:]
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                scale = math.sqrt(max(1.0, rows / columns))
                parameter.add_(update.mT if rows > columns else update, alpha=-group["lr"] * scale)


def orthogonalise_rows(matrices: Float[Tensor, "matrices rows columns"]) -> Float[Tensor, "matrices rows columns"]:
    """Move each matrix (no taller than wide) towards the nearest one with orthonormal rows.

    After five quintic Newton-Schulz iterations the singular values are between about 0.5 and 1.5.
    """
    # the coefficients are the defaults of torch.optim.Muon
    x = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT
        update = torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, update, x, beta=3.4445)
    return x


def group_parameters(population: Population) -> tuple[list[nn.Parameter], ...]:
    """Return a population's weight matrices of attention and MLPs, its embeddings, and its vectors and scalars.

    The learned vectors of a substitute for residual connections count as embeddings, its gate as a vector.
    """
    matrices = {name: parameter for name, parameter in population.weights.items() if parameter.ndim == 3}
    hidden = [parameter for name, parameter in matrices.items() if ".transformation." in name]
    embeddings = [parameter for name, parameter in matrices.items() if ".transformation." not in name]
    return hidden, embeddings, [parameter for parameter in population.stacked if parameter.ndim < 3]


def build_adamw(population: Population, training: Training) -> torch.optim.Optimizer:
    """Build the optimizer AdamW for all parameters of a population."""
    hidden, embeddings, vectors = group_parameters(population)
    groups: list[dict[str, Any]] = [{"params": hidden + embeddings}, {"params": vectors, "weight_decay": 0.0}]
    decay = training.weight_decay
    return torch.optim.AdamW(groups, training.learning_rate, training.betas, weight_decay=decay, fused=True)


def build_muon_with_adamw(population: Population, training: Training) -> torch.optim.Optimizer:
    """Build the optimizer of a population with Muon for matrices inside layers, and AdamW for other parameters."""
    hidden, embeddings, vectors = group_parameters(population)
    muon = {"params": hidden, "muon": True, "lr": training.learning_rate}
    groups: list[dict[str, Any]] = [muon, {"params": embeddings}, {"params": vectors, "weight_decay": 0.0}]
    decay = training.weight_decay
    return MuonAdamW(groups, ADAMW_RATE_SHARE * training.learning_rate, training.betas, weight_decay=decay, fused=True)


OPTIMIZER_BUILDERS: dict[OptimizerName, Callable[[Population, Training], torch.optim.Optimizer]] = {
    "adamw": build_adamw,
    "muon": build_muon_with_adamw,
}
"""Name of an optimizer in params.yaml -> function that builds the optimizer of a population.

If a state tensor has the shape of its parameter, its first axis is the member axis."""


def build_optimizer(population: Population, training: Training) -> torch.optim.Optimizer:
    """Build the optimizer of a population that the training settings name."""
    return OPTIMIZER_BUILDERS[training.optimizer](population, training)


def compute_learning_rate_factor(step: int, training: Training) -> float:
    """Compute the learning rate at `step` (counted from 0) as a share of the highest one.

    The learning rate warms up linearly. Then it stays constant, or falls as half a cosine to `final_learning_rate`,
    which it reaches at the last of `decay_steps`.
    """
    if step < training.warmup_steps:
        return (step + 1) / training.warmup_steps
    if training.schedule == "constant":
        return 1.0
    last = (training.decay_steps or training.steps) - 1
    progress = (step - training.warmup_steps) / max(1, last - training.warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return training.final_learning_rate + (1.0 - training.final_learning_rate) * cosine


def compute_gradient_norms(population: Population) -> Float[Tensor, " member"]:
    """Compute the Euclidean norm of the whole gradient of each member of a population."""
    gradients = [parameter.grad for parameter in population.stacked if parameter.grad is not None]
    return torch.stack([gradient.flatten(1).float().square().sum(1) for gradient in gradients]).sum(0).sqrt()


def clip_gradients(population: Population, norms: Float[Tensor, " member"], max_norm: float) -> None:
    """Scale down the gradient of each member whose norm exceeds `max_norm`, as torch's `clip_grad_norm_` does for one
    model. A norm that is not finite affects no other member."""
    factor = (max_norm / (norms + 1e-6)).clamp(max=1.0)
    for parameter in population.stacked:
        if parameter.grad is not None:
            parameter.grad.mul_(factor.view(-1, *[1] * (parameter.ndim - 1)))
