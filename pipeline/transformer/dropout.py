"""Random numbers and dropout that are pure functions of a key.

torch's generator hands out numbers in order, so the draws of one member of a population would depend on the others.
Here every number is a hash of (key, index): whoever sets the key determines the numbers.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_SPLITMIX_INCREMENT = -7046029254386353131  # 0x9E3779B97F4A7C15, the golden-ratio increment of SplitMix64
_SPLITMIX_FACTOR_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SPLITMIX_FACTOR_2 = -7723592293110705685  # 0x94D049BB133111EB


def _logical_shift_right(x: Int[Tensor, "*shape"], bit_count: int) -> Int[Tensor, "*shape"]:
    """Shift the bits of integers to the right and fill with zeros; torch's `>>` would copy the sign bit."""
    return (x >> bit_count) & ((1 << (64 - bit_count)) - 1)


def hash64(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Hash integers by SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): an input bit affects half of the output bits."""
    x = x * _SPLITMIX_INCREMENT
    x = (x ^ _logical_shift_right(x, 30)) * _SPLITMIX_FACTOR_1
    x = (x ^ _logical_shift_right(x, 27)) * _SPLITMIX_FACTOR_2
    return x ^ _logical_shift_right(x, 31)


def draw_uniform(key: Int[Tensor, ""], shape: Sequence[int], device: torch.device) -> Float[Tensor, "..."]:
    """Draw random numbers from [0, 1), each a pure function of `key` and of the number's index in `shape`."""
    index = torch.arange(math.prod(shape), device=device).view(*shape)
    return _logical_shift_right(hash64(index + key), 40) / float(1 << 24)


class KeyedDropout(nn.Module):
    """Dropout (Srivastava et al. 2014) whose random mask is determined by the buffer `key`."""

    key: Tensor

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.register_buffer("key", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self.training or self.probability == 0.0:
            return x
        kept = draw_uniform(self.key, x.shape, x.device) >= self.probability
        return torch.where(kept, x / (1.0 - self.probability), 0.0)
