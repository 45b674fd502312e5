"""Many members, one program: models of equal shape, stacked on a leading `member` axis.

On a GPU one small model leaves the chip idle, a hundred fill it. Each member has its own initialisation, its own
batches and its own random stream, and does not feel its neighbours.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, vmap

from pipeline.params import Model
from pipeline.transformer.dropout import hashed
from pipeline.transformer.model import Transformer


def initialised(config: Model, *, vocabulary: int, length: int, seed: int) -> Transformer:
    """The member that `seed` stands for, before training: the same whether it is built alone or in company."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Transformer(config, vocabulary=vocabulary, length=length)


class Population(nn.Module):
    """Transformers of one configuration, one per seed, run and trained together.

    Args:
        config: what all members are.
        seeds: one member each.
        vocabulary: number of different tokens.
        length: longest row, in tokens.
    """

    member_seeds: Tensor

    def __init__(self, config: Model, seeds: Sequence[int], *, vocabulary: int, length: int) -> None:
        super().__init__()
        members = [initialised(config, vocabulary=vocabulary, length=length, seed=seed) for seed in seeds]
        # The skeleton lends its code and its constant tables; its own weights are never used.
        self.skeleton = members[0].requires_grad_(False)
        self.names = [name for name, _ in self.skeleton.named_parameters()]
        self.stacked = nn.ParameterList(
            torch.stack([member.get_parameter(name).detach() for member in members]) for name in self.names
        )
        self.dropout_keys = [
            name for name, _ in self.skeleton.named_buffers() if name.endswith("dropout.key") and config.dropout
        ]
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
    ) -> Float[Tensor, "member batch reads vocabulary"]:
        """Logits after each of `positions`; without a member axis, all members see the same rows.

        `step` counts training steps: dropout masks are a function of member, step and place.
        """
        own_rows = 0 if tokens.ndim == 3 else None
        own = self.weights | self._keys(step)
        return vmap(self._member, in_dims=(0, own_rows, own_rows))(own, tokens, positions)

    def _member(
        self,
        own: dict[str, Tensor],
        tokens: Int[Tensor, "batch length"],
        positions: Int[Tensor, "batch reads"],
    ) -> Float[Tensor, "batch reads vocabulary"]:
        return functional_call(self.skeleton, own, (tokens, positions))

    def _keys(self, step: int) -> dict[str, Tensor]:
        stream = hashed(hashed(self.member_seeds) + step) if self.dropout_keys else self.member_seeds
        return {name: hashed(stream + place) for place, name in enumerate(self.dropout_keys)}

    @torch.no_grad()
    def keep(self, members: Int[Tensor, " kept"], optimizer: torch.optim.Optimizer) -> None:
        """Let go of all but `members` (indices), here and in the optimizer's state."""
        for parameter in self.stacked:
            whole = parameter.shape
            for name, value in optimizer.state[parameter].items():
                if isinstance(value, Tensor) and value.shape == whole:
                    optimizer.state[parameter][name] = value[members]
            parameter.data = parameter.data[members]
            parameter.grad = None
        self.member_seeds = self.member_seeds[members]

    def member_weights(self, member: int) -> dict[str, Tensor]:
        """A copy of one member's weights on the CPU, under the transformer's own names."""
        return {name: stacked[member].detach().cpu().clone() for name, stacked in self.weights.items()}
