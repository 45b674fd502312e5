"""Positional encodings, one small class each, found by name in `POSITIONAL`.

An encoding may act in three places: on the residual stream (`add`), on queries and keys (`rotate`), or on the
attention scores (`bias`). What a class does not override leaves things as they are.

Tables are computed in float64 and rounded: the last digits of a float32 sine are the processor's own.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class Positional(nn.Module):
    """No encoding, and the base of the others: every hook is the identity.

    Args:
        length: longest row, in tokens.
        width: units of the residual stream.
        heads: attention heads of `width / heads` units.
    """

    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__()

    def add(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        """The residual stream with positions added."""
        return x

    def rotate(
        self, x: Float[Tensor, "batch heads places units"], at: Int[Tensor, "batch places"] | None = None
    ) -> Float[Tensor, "batch heads places units"]:
        """Queries or keys with their positions turned in: those named, or else 0, 1, 2, ..."""
        return x

    def bias(self, visible: Bool[Tensor, "*samples length length"]) -> Float[Tensor, "*samples _ length length"]:
        """What is added to the attention scores, `[sample, head, key, query]`: minus infinity where the query (last
        axis but one of `visible`) does not see the key."""
        seen = visible.mT.unsqueeze(-3)
        return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, -torch.inf)


class Learned(Positional):
    """A trained vector per position, added to the embeddings (GPT-2)."""

    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__(length, width, heads)
        self.table = nn.Embedding(length, width)

    def add(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        return x + self.table.weight[: x.shape[-2]]


class Sinusoidal(Positional):
    """Fixed sines and cosines, added to the embeddings (Vaswani et al. 2017, section 3.5).

    Scaled by the embeddings' initial size: at unit size they would drown the tokens.
    """

    table: Tensor

    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__(length, width, heads)
        angles = angular(length, width)
        table = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
        self.register_buffer("table", (EMBEDDING_SCALE * table).float(), persistent=False)

    def add(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        return x + self.table[: x.shape[-2]]


class Rotary(Positional):
    """Queries and keys turned by an angle proportional to their position (Su et al. 2021, arXiv 2104.09864): each two
    units in a row are a complex number."""

    turns: Tensor

    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__(length, width, heads)
        angles = angular(length, width // heads)
        turns = torch.stack((angles.cos(), angles.sin()), dim=-1)
        self.register_buffer("turns", turns.float(), persistent=False)

    def rotate(
        self, x: Float[Tensor, "batch heads places units"], at: Int[Tensor, "batch places"] | None = None
    ) -> Float[Tensor, "batch heads places units"]:
        turns = self.turns[: x.shape[-2]] if at is None else self.turns[at].unsqueeze(-4)
        pairs = x.to(turns.dtype).unflatten(-1, (-1, 2))  # there are no complex bfloat16
        return torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(turns)).flatten(-2)


class Alibi(Positional):
    """A penalty on the scores, linear in distance, its slope falling from head to head (Press et al. 2021,
    arXiv 2108.12409). With full attention the distance counts the same in both directions.
    """

    penalty: Tensor

    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__(length, width, heads)
        slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
        places = torch.arange(length)
        distance = (places[:, None] - places).abs()
        self.register_buffer("penalty", slopes[:, None, None] * distance, persistent=False)

    def bias(self, visible: Bool[Tensor, "*samples length length"]) -> Float[Tensor, "*samples heads length length"]:
        length = visible.shape[-1]
        return super().bias(visible) - self.penalty[:, :length, :length]


def angular(length: int, units: int) -> Float[Tensor, "length pairs"]:
    """The angle of each pair of units at each position, in radians, falling from 1 to 1/10,000 a position."""
    return torch.arange(length)[:, None] / 10_000.0 ** (torch.arange(0, units, 2).double() / units)


EMBEDDING_SCALE = 0.02
"""Standard deviation of the initial embeddings and weights (GPT-2)."""

POSITIONAL: dict[str, type[Positional]] = {
    "none": Positional,
    "learned": Learned,
    "sinusoidal": Sinusoidal,
    "rotary": Rotary,
    "alibi": Alibi,
}
