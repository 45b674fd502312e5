"""Population: models of equal shape, stacked on a leading `member` axis and trained by one batched program.

One small model leaves a GPU idle, a hundred fill it. Each member has its own initialisation, batches and random
numbers, and computes what it would compute alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, vmap

from pipeline.params import Model
from pipeline.transformer.dropout import hash64
from pipeline.transformer.model import Transformer


def build_initial_model(config: Model, *, seed: int, **transformer_arguments: Any) -> Transformer:
    """Build the transformer of a seed, with its weights before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Transformer(config, **transformer_arguments)


class Population(nn.Module):
    """Transformers of one configuration, one member per seed, run and trained together.

    With `average` greater than 0, a running average of the weights is kept beside them. In evaluation mode the
    population computes with the average, and the average is what `copy_member_weights` returns.

    If `compiled`, the training step is compiled, which fuses its kernels and launches them as one graph on a GPU.
    """

    member_seeds: Tensor

    def __init__(
        self,
        config: Model,
        seeds: Sequence[int],
        *,
        average: float = 0.0,
        compiled: bool = False,
        **transformer_arguments: Any,
    ) -> None:
        super().__init__()
        self.average = average
        forward = self._forward_members
        self.compiled = torch.compile(forward, mode="reduce-overhead", fullgraph=True) if compiled else None
        members = [build_initial_model(config, seed=seed, **transformer_arguments) for seed in seeds]
        # Only the code and the constant buffers of the skeleton are used, not its weights.
        self.skeleton = members[0].requires_grad_(False)
        self.parameter_names = [name for name, _ in self.skeleton.named_parameters()]
        self.stacked = nn.ParameterList(
            torch.stack([member.get_parameter(name).detach() for member in members]) for name in self.parameter_names
        )
        self.averaged = nn.ParameterList(
            nn.Parameter(parameter.detach().clone(), requires_grad=False) for parameter in self.stacked if average
        )
        """Running averages of `stacked`; none if `average` is 0."""
        buffers = [name for name, _ in self.skeleton.named_buffers()]
        random = ("substitute.key", "dropout.key") if config.dropout else "substitute.key"
        self.key_buffers = [name for name in buffers if name.endswith(random)]
        """Names of the transformer's buffers that hold keys for random numbers."""
        self.step_buffers = [name for name in buffers if name.endswith(".step")]
        """Names of the transformer's buffers that hold the training step."""
        self.final_from = config.final_from
        self.register_buffer("member_seeds", torch.tensor(list(seeds)), persistent=False)

    def __len__(self) -> int:
        return len(self.member_seeds)

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """Parameter name in the transformer -> trained parameter of all members, stacked to `[member, ...]`."""
        return dict(zip(self.parameter_names, self.stacked, strict=True))

    @property
    def evaluated_weights(self) -> dict[str, nn.Parameter]:
        """Like `weights`, but their running average if there is one."""
        return dict(zip(self.parameter_names, self.averaged if self.average else self.stacked, strict=True))

    def forward(
        self,
        tokens: Int[Tensor, "*member batch length"],
        positions: Int[Tensor, "*member batch reads"],
        step: int = 0,
    ) -> Float[Tensor, "member batch reads vocabulary"]:
        """Compute each member's logits for the token after each of `positions`.

        Without a member axis in `tokens`, all members get the same examples. `step` is the training step.
        Random numbers depend on nothing but seed, step and buffer.
        """
        buffers = dict.fromkeys(self.step_buffers, torch.full_like(self.member_seeds, step))
        if self.key_buffers:
            stream = hash64(hash64(self.member_seeds) + step)
            buffers |= {name: hash64(stream + index) for index, name in enumerate(self.key_buffers)}
        forward = self.compiled if self.compiled and self.training else self._forward_members
        return forward(buffers, tokens, positions)

    def _forward_members(self, buffers: dict[str, Tensor], tokens: Tensor, positions: Tensor) -> Tensor:
        member_axis = 0 if tokens.ndim == 3 else None
        run = vmap(functional_call, in_dims=(None, 0, member_axis))
        weights = self.weights if self.training else self.evaluated_weights
        return run(self.skeleton, weights | buffers, (tokens, positions))

    @torch.no_grad()
    def update_average(self, step: int) -> None:
        """Include the weights after training step `step` (counted from 0) in the running average.

        The average `w̄` becomes `a w̄ + (1 - a) w` with `a = min(average, (step + 1) / (step + 10))`: the first steps
        count less, so that the average soon forgets the initial weights. Where the network becomes the final one, the
        average starts anew: steps are counted from there.
        """
        if self.average:
            step -= self.final_from if step >= self.final_from else 0
            kept_share = min(self.average, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(self.averaged), list(self.stacked), 1.0 - kept_share)

    @torch.no_grad()
    def keep_members(self, member_indices: list[int], optimizer: torch.optim.Optimizer | None = None) -> None:
        """Keep the members at `member_indices` and drop all others, also from the state of the optimizer, if given."""
        for parameter in [*self.stacked, *self.averaged]:
            state = optimizer.state.get(parameter, {}) if optimizer else {}
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    state[name] = value[member_indices]
            parameter.data = parameter.data[member_indices]
            parameter.grad = None
        self.member_seeds = self.member_seeds[member_indices]
        if self.compiled:
            torch.compiler.reset()  # the compiler gives up after a few shapes; drop those that are no longer needed

    def copy_member_weights(self, member: int) -> dict[str, Tensor]:
        """Copy the evaluated weights of the member with index `member` to the CPU, named as in the transformer."""
        return {name: stacked[member].detach().cpu().clone() for name, stacked in self.evaluated_weights.items()}
