"""Random numbers and dropout as a pure function of a key.

torch's generator hands out numbers in order, so the draws of one member of a population would depend on the others.
Here every number is a hash of (key, index): whoever sets the key determines the numbers.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_STEP = -7046029254386353131  # 0x9E3779B97F4A7C15, the golden-ratio increment of SplitMix64
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(x: Int[Tensor, "*shape"], bits: int) -> Int[Tensor, "*shape"]:
    """Logical shift: torch's `>>` on int64 copies the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def hash64(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): flipping one input bit flips half of the output bits on average."""
    x = x * _STEP
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def uniform(key: Int[Tensor, ""], shape: Sequence[int], device: torch.device) -> Float[Tensor, "..."]:
    """Uniform numbers in [0, 1), each a pure function of the key and of its index."""
    index = torch.arange(math.prod(shape), device=device).view(*shape)
    return _shift_right(hash64(index + key), 40) / float(1 << 24)


class KeyedDropout(nn.Module):
    """Dropout (Srivastava et al. 2014) whose mask is determined by the buffer `key`."""

    key: Tensor

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.register_buffer("key", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self.training or self.probability == 0.0:
            return x
        kept = uniform(self.key, x.shape, x.device) >= self.probability
        return torch.where(kept, x / (1.0 - self.probability), 0.0)
