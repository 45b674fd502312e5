"""Positional encodings, one small class each, found by name in `POSITIONAL`.

An encoding may act in three places: on the residual stream (`add`), on queries and keys (`rotate`), or on the
attention scores (`bias`). What a class does not override leaves things as they are.
"""

import torch
from jaxtyping import Float, Int
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
        self, x: Float[Tensor, "batch heads places units"], at: Int[Tensor, "*batch places"]
    ) -> Float[Tensor, "batch heads places units"]:
        """Queries or keys with their positions turned in."""
        return x

    def bias(
        self, scores: Float[Tensor, "batch heads keys queries"], at: Int[Tensor, "*batch queries"]
    ) -> Float[Tensor, "batch heads keys queries"]:
        """Attention scores of all keys with their distance to the queries, which stand `at`, taken into account."""
        return scores


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
        angles = torch.arange(length)[:, None] / 10_000 ** (torch.arange(0, width, 2) / width)
        table = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
        self.register_buffer("table", EMBEDDING_SCALE * table, persistent=False)

    def add(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        return x + self.table[: x.shape[-2]]


class Rotary(Positional):
    """Queries and keys turned by an angle proportional to their position (Su et al. 2021, arXiv 2104.09864)."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__(length, width, heads)
        units = width // heads
        angles = torch.arange(length)[:, None] / 10_000 ** (torch.arange(0, units, 2) / units)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)

    def rotate(
        self, x: Float[Tensor, "batch heads places units"], at: Int[Tensor, "*batch places"]
    ) -> Float[Tensor, "batch heads places units"]:
        cosine, sine = self.cosine[at].unsqueeze(-3), self.sine[at].unsqueeze(-3)
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1).flatten(-2)


class Alibi(Positional):
    """A penalty on the scores, linear in distance, its slope falling from head to head (Press et al. 2021,
    arXiv 2108.12409). With full attention the distance counts the same in both directions.
    """

    slopes: Tensor

    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__(length, width, heads)
        self.register_buffer("slopes", 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads), persistent=False)

    def bias(
        self, scores: Float[Tensor, "batch heads keys queries"], at: Int[Tensor, "*batch queries"]
    ) -> Float[Tensor, "batch heads keys queries"]:
        keys = torch.arange(scores.shape[-2], device=scores.device)
        distance = (keys[:, None] - at[..., None, :]).abs()
        return scores - self.slopes[:, None, None] * distance.unsqueeze(-3)


EMBEDDING_SCALE = 0.02
"""Standard deviation of the initial embeddings and weights (GPT-2)."""

POSITIONAL: dict[str, type[Positional]] = {
    "none": Positional,
    "learned": Learned,
    "sinusoidal": Sinusoidal,
    "rotary": Rotary,
    "alibi": Alibi,
}
