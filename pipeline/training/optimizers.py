"""Optimizers of a population: AdamW alone, or Muon for the hidden matrices and AdamW for all other parameters.

AdamW treats every number alone, so stacking members changes nothing. Muon treats whole matrices, so its Newton-Schulz
iteration is batched here over members and over layers of equal shape.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.adamw import adamw

from pipeline.params import Training
from pipeline.params.training import OptimizerName
from pipeline.training.population import Population

# Keller Jordan, "Muon: An optimizer for hidden layers in neural networks" (2024); the defaults of torch.optim.Muon.
MUON_MOMENTUM = 0.95
NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5
MIN_NORM = 1e-7
NEWTON_SCHULZ_PRECISION = {"cuda": torch.bfloat16}
"""Device type -> number format of Muon's Newton-Schulz iteration. Other devices use float32, because many processors
multiply ten times slower in bfloat16."""

ADAM_EPSILON = 1e-8


class MuonAdamW(torch.optim.Optimizer):
    """Optimizer that applies Muon to parameter groups with `algorithm: muon`, and AdamW to groups with `adamw`.

    Muon's parameters are stacked matrices `[member, rows, columns]`. Every member is updated as by `torch.optim.Muon`
    (with default settings) and `torch.optim.AdamW`.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"weight_decay": 0.0, "betas": (0.9, 0.999)})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["algorithm"] == "muon":
                self._step_muon(parameters, group)
            else:
                self._step_adamw(parameters, group)
        return loss

    def _step_muon(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        by_shape: dict[tuple[int, ...], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            gradient, momentum = parameter.grad, state["momentum"]
            assert gradient is not None
            momentum.lerp_(gradient, 1 - MUON_MOMENTUM)
            update = gradient.lerp(momentum, MUON_MOMENTUM).to(
                NEWTON_SCHULZ_PRECISION.get(gradient.device.type, torch.float32)
            )
            rows, columns = update.shape[-2:]
            wide = update.transpose(-2, -1) if rows > columns else update
            by_shape[tuple(wide.shape[-2:])].append((parameter, wide))
        for pairs in by_shape.values():
            updates = orthogonalise_rows(torch.cat([wide for _, wide in pairs]))
            members = len(pairs[0][1])
            for (parameter, _), wide in zip(pairs, updates.split(members), strict=True):
                rows, columns = parameter.shape[-2:]
                update = wide.transpose(-2, -1) if rows > columns else wide
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)))

    def _step_adamw(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter].update(
                    step=torch.zeros((), device=parameter.device),
                    exp_avg=torch.zeros_like(parameter),
                    exp_avg_sq=torch.zeros_like(parameter),
                )
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            list[Tensor](parameters),
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=ADAM_EPSILON,
            maximize=False,
        )


def orthogonalise_rows(
    matrices: Float[Tensor, "matrices rows columns"],
) -> Float[Tensor, "matrices rows columns"]:
    """Move each matrix (no taller than wide) towards the nearest one with orthonormal rows.

    After five quintic Newton-Schulz iterations the singular values are between about 0.5 and 1.5.
    """
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    x = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=MIN_NORM)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.transpose(-2, -1)
        update = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, update, x, beta=a)
    return x


class ParametersByKind(NamedTuple):
    """Parameters of a population in three groups, which the optimizers treat differently."""

    hidden_matrices: list[nn.Parameter]
    """Weight matrices inside the transformer's layers."""
    embedding_matrices: list[nn.Parameter]
    """Weight matrices outside the transformer's layers: embeddings and the output matrix."""
    norm_parameters: list[nn.Parameter]
    """Scales and shifts of the layer norms, which get no weight decay."""


def group_parameters(population: Population) -> ParametersByKind:
    """Group the parameters of a population by the way they are optimized."""
    groups = ParametersByKind([], [], [])
    for name, parameter in population.weights.items():
        if parameter.ndim < 3:
            groups.norm_parameters.append(parameter)
        elif name.startswith("blocks."):
            groups.hidden_matrices.append(parameter)
        else:
            groups.embedding_matrices.append(parameter)
    return groups


def build_adamw(population: Population, training: Training) -> torch.optim.Optimizer:
    """Build the optimizer AdamW for all parameters of a population."""
    hidden, embeddings, vectors = group_parameters(population)
    return torch.optim.AdamW(
        [
            {"params": hidden + embeddings, "weight_decay": training.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=training.learning_rate,
        betas=training.betas,
        eps=ADAM_EPSILON,
        fused=True,
    )


def build_muon_with_adamw(population: Population, training: Training) -> torch.optim.Optimizer:
    """Build the optimizer of a population with Muon for matrices inside layers, and AdamW for other parameters."""
    hidden, embeddings, vectors = group_parameters(population)
    decay = training.weight_decay
    rest = {"algorithm": "adamw", "lr": training.adamw_learning_rate, "betas": training.betas}
    return MuonAdamW(
        [
            {"algorithm": "muon", "params": hidden, "lr": training.learning_rate, "weight_decay": decay},
            {**rest, "params": embeddings, "weight_decay": decay},
            {**rest, "params": vectors, "weight_decay": 0.0},
        ]
    )


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
    squares = [
        parameter.grad.flatten(1).float().square().sum(1)
        for parameter in population.stacked
        if parameter.grad is not None
    ]
    return torch.stack(squares).sum(0).sqrt()


def clip_gradients(population: Population, norms: Float[Tensor, " member"], max_norm: float) -> None:
    """Scale down the gradient of each member whose norm exceeds `max_norm`, as torch's `clip_grad_norm_` does for one
    model. A norm that is not finite affects no other member."""
    factor = (max_norm / (norms + 1e-6)).clamp(max=1.0)
    for parameter in population.stacked:
        if parameter.grad is not None:
            parameter.grad.mul_(factor.view(-1, *[1] * (parameter.ndim - 1)))
