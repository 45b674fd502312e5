"""Many members, one program: models of equal shape, stacked on a leading `member` axis.

On a GPU one small model leaves the chip idle, a hundred fill it. Each member has its own initialisation, its own
batches and its own random stream, and does not feel its neighbours.
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


def initial_model(config: Model, *, seed: int, **inputs: Any) -> Transformer:
    """The member that `seed` stands for, before training: the same whether it is built alone or in company. `inputs`:
    what a transformer must know of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Transformer(config, **inputs)


class Population(nn.Module):
    """Transformers of one configuration, one per seed, run and trained together.

    Args:
        config: what all members are.
        seeds: one member each.
        compiled: whether what is trained is compiled: on a GPU, kernels are fused, and launched as one graph.
        inputs: what a transformer must know of them.
    """

    member_seeds: Tensor

    def __init__(self, config: Model, seeds: Sequence[int], *, compiled: bool = False, **inputs: Any) -> None:
        super().__init__()
        self.compiled = torch.compile(self._together, mode="reduce-overhead", fullgraph=True) if compiled else None
        members = [initial_model(config, seed=seed, **inputs) for seed in seeds]
        # The skeleton lends its code and its constant tables; its own weights are never used.
        self.skeleton = members[0].requires_grad_(False)
        self.names = [name for name, _ in self.skeleton.named_parameters()]
        self.stacked = nn.ParameterList(
            torch.stack([member.get_parameter(name).detach() for member in members]) for name in self.names
        )
        buffers = [name for name, _ in self.skeleton.named_buffers()]
        drawing = ("substitute.key", *["dropout.key"] * bool(config.dropout))
        self.keys = [name for name in buffers if name.endswith(drawing)]
        self.fading = [name for name in buffers if name.endswith("substitute.faded")]
        self.register_buffer("member_seeds", torch.tensor(list(seeds)), persistent=False)

    def __len__(self) -> int:
        return len(self.member_seeds)

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """Name in the transformer -> stacked parameter `[member, ...]`."""
        return dict(zip(self.names, self.stacked, strict=True))

    def forward(
        self,
        tokens: Int[Tensor, "*member batch length"],
        positions: Int[Tensor, "*member batch reads"],
        step: int = 0,
        steps: int = 1,
    ) -> Float[Tensor, "member batch reads vocabulary"]:
        """Logits after each of `positions`; without a member axis, all members see the same rows.

        `step` counts training steps, of `steps`: what is drawn is a function of member, step and place.
        """
        faded = torch.full_like(self.member_seeds, min(1.0, 2.0 * step / steps), dtype=torch.float32)
        moment = self._keys(step) | dict.fromkeys(self.fading, faded)
        together = self.compiled if self.compiled and self.training else self._together
        return together(moment, tokens, positions)

    def _together(
        self,
        moment: dict[str, Tensor],
        tokens: Int[Tensor, "*member batch length"],
        positions: Int[Tensor, "*member batch reads"],
    ) -> Float[Tensor, "member batch reads vocabulary"]:
        own_rows = 0 if tokens.ndim == 3 else None
        return vmap(self._member, in_dims=(0, own_rows, own_rows))(self.weights | moment, tokens, positions)

    def _member(
        self,
        own: dict[str, Tensor],
        tokens: Int[Tensor, "batch length"],
        positions: Int[Tensor, "batch reads"],
    ) -> Float[Tensor, "batch reads vocabulary"]:
        return functional_call(self.skeleton, own, (tokens, positions))

    def _keys(self, step: int) -> dict[str, Tensor]:
        stream = hash64(hash64(self.member_seeds) + step) if self.keys else self.member_seeds
        return {name: hash64(stream + place) for place, name in enumerate(self.keys)}

    @torch.no_grad()
    def keep(self, members: Int[Tensor, " kept"], optimizer: torch.optim.Optimizer | None = None) -> None:
        """Let go of all but `members` (indices), here and in the optimizer's state, where there is one yet."""
        for parameter in self.stacked:
            whole = parameter.shape
            state = optimizer.state[parameter] if optimizer else {}
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == whole:
                    state[name] = value[members]
            parameter.data = parameter.data[members]
            parameter.grad = None
        self.member_seeds = self.member_seeds[members]
        if self.compiled:
            torch.compiler.reset()  # it gives up after a few shapes, and those before are not needed any more

    def member_weights(self, member: int) -> dict[str, Tensor]:
        """A copy of one member's weights on the CPU, under the transformer's own names."""
        return {name: stacked[member].detach().cpu().clone() for name, stacked in self.weights.items()}
