"""Positional encodings, one small class each, registered in `POSITIONAL_ENCODINGS`.

An encoding is added to the embeddings (`add_positions`), rotates queries and keys (`rotate_by_position`), or is added
to the attention scores (`score_bias`). A method that a class does not override changes nothing.

Tables are computed in float64 and rounded, because the last digits of a float32 sine differ between processors.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pipeline.params.model import PositionalName

EMBEDDING_SCALE = 0.02
"""Standard deviation of the initial embeddings and weights (GPT-2)."""


class PositionalEncoding(nn.Module):
    """Base class of all positional encodings; an instance of the base class encodes no position.

    `length` is that of the longest token sequence. Each of the `heads` has `width / heads` units.
    """

    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__()

    def add_positions(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        """Return the embeddings `x` with a vector for each position added."""
        return x

    def rotate_by_position(
        self, x: Float[Tensor, "batch heads length units"], positions: Int[Tensor, "batch length"] | None = None
    ) -> Float[Tensor, "batch heads length units"]:
        """Return queries or keys `x`, rotated by angles that depend on their `positions` (default: 0, 1, 2, ...)."""
        return x

    def score_bias(
        self, attention_mask: Bool[Tensor, "*samples length length"]
    ) -> Float[Tensor, "*samples _ length length"]:
        """Return what is added to scores `[sample, head, key, query]`: minus infinity where the mask is False."""
        by_key = attention_mask.mT.unsqueeze(-3)
        return torch.zeros(by_key.shape, device=by_key.device).masked_fill(~by_key, -torch.inf)


class LearnedEncoding(PositionalEncoding):
    """Learned positional encoding: a trained vector per position, added to the embeddings (GPT-2)."""

    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__(length, width, heads)
        self.table = nn.Embedding(length, width)

    def add_positions(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        return x + self.table.weight[: x.shape[-2]]


class SinusoidalEncoding(PositionalEncoding):
    """Sinusoidal positional encoding: sines and cosines, added to the embeddings (Vaswani et al. 2017, section 3.5)."""

    table: Tensor

    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__(length, width, heads)
        angles = position_angles(length, width)
        table = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
        # scaled like the initial embeddings: at amplitude 1 the sines would drown the tokens
        self.register_buffer("table", (EMBEDDING_SCALE * table).float(), persistent=False)

    def add_positions(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        return x + self.table[: x.shape[-2]]


class RotaryEncoding(PositionalEncoding):
    """Rotary encoding: queries and keys are rotated in proportion to their position (Su et al. 2021, arXiv 2104.09864).

    Units 2i and 2i+1 are the real and imaginary part of one complex number.
    """

    rotations: Tensor

    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__(length, width, heads)
        angles = position_angles(length, width // heads)
        rotations = torch.stack((angles.cos(), angles.sin()), dim=-1)
        self.register_buffer("rotations", rotations.float(), persistent=False)

    def rotate_by_position(
        self, x: Float[Tensor, "batch heads length units"], positions: Int[Tensor, "batch length"] | None = None
    ) -> Float[Tensor, "batch heads length units"]:
        rotations = self.rotations[: x.shape[-2]] if positions is None else self.rotations[positions].unsqueeze(-4)
        pairs = x.to(rotations.dtype).unflatten(-1, (-1, 2))  # torch has no complex bfloat16
        return torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rotations)).flatten(-2)


class AlibiEncoding(PositionalEncoding):
    """ALiBi: scores fall linearly with distance, with a slope per head (Press et al. 2021, arXiv 2108.12409)."""

    distance_penalty: Tensor

    def __init__(self, length: int, width: int, heads: int) -> None:
        super().__init__(length, width, heads)
        slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
        positions = torch.arange(length)
        distance = (positions[:, None] - positions).abs()  # with full attention, the same in both directions
        self.register_buffer("distance_penalty", slopes[:, None, None] * distance, persistent=False)

    def score_bias(
        self, attention_mask: Bool[Tensor, "*samples length length"]
    ) -> Float[Tensor, "*samples heads length length"]:
        length = attention_mask.shape[-1]
        return super().score_bias(attention_mask) - self.distance_penalty[:, :length, :length]


class TemporaryEncoding(PositionalEncoding):
    """Another encoding, in the first `steps` training steps; afterwards and in evaluation, none.

    In training, the population sets the buffer `step`.
    """

    step: Tensor

    def __init__(self, encoding: PositionalEncoding, steps: int) -> None:
        nn.Module.__init__(self)
        self.encoding, self.steps = encoding, steps
        self.register_buffer("step", torch.zeros((), dtype=torch.int64), persistent=False)

    def add_positions(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        return self._at_first(self.encoding.add_positions(x), x)

    def rotate_by_position(
        self, x: Float[Tensor, "batch heads length units"], positions: Int[Tensor, "batch length"] | None = None
    ) -> Float[Tensor, "batch heads length units"]:
        return self._at_first(self.encoding.rotate_by_position(x, positions), x)

    def score_bias(
        self, attention_mask: Bool[Tensor, "*samples length length"]
    ) -> Float[Tensor, "*samples _ length length"]:
        return self._at_first(self.encoding.score_bias(attention_mask), super().score_bias(attention_mask))

    def _at_first(self, encoded: Tensor, plain: Tensor) -> Tensor:
        return torch.where(self.step < self.steps, encoded, plain) if self.training else plain


def position_angles(length: int, unit_count: int) -> Float[Tensor, "length pairs"]:
    """Return the angle of each pair of units at each position: from 1 radian per position to about 1/10,000 radian."""
    return torch.arange(length)[:, None] / 10_000.0 ** (torch.arange(0, unit_count, 2).double() / unit_count)


POSITIONAL_ENCODINGS: dict[PositionalName, type[PositionalEncoding]] = {
    "none": PositionalEncoding,
    "learned": LearnedEncoding,
    "sinusoidal": SinusoidalEncoding,
    "rotary": RotaryEncoding,
    "alibi": AlibiEncoding,
}
