"""Prompts of one length, their permutations, and how much two predictions differ."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.dataset import Examples

PROMPTS, PERMUTATIONS = 64, 4
TOLERANCE = 1e-9
"""Largest change of a logit, in float64, that counts as no change."""


class PermutedPrompts(NamedTuple):
    """Prompts of one length, and permutations of the tokens before each prompt's last one."""

    prompts: Int[Tensor, "prompts length"]
    orders: Int[Tensor, "prompts permutations length"]
    """Token `k` of permutation `i` of prompt `p` is token `orders[p, i, k]` of the prompt; the last one stays."""

    @property
    def tokens(self) -> Int[Tensor, "prompts permutations length"]:
        """Tokens of the permuted prompts."""
        return self.prompts[:, None, :].expand_as(self.orders).gather(-1, self.orders)


def same_length_examples(examples: Examples, count: int = PROMPTS) -> Examples:
    """The first `count` examples whose prompts have the most common length (of several, the shortest)."""
    lengths = examples.prompt_lengths
    length = int(np.bincount(lengths).argmax())
    return examples[(lengths == length).nonzero()[:count, 0]]


def same_length_prompts(examples: Examples, count: int = PROMPTS) -> Int[Tensor, "prompts length"]:
    """Prompts of the first `count` examples whose prompts have the most common length."""
    chosen = same_length_examples(examples, count)
    return chosen.tokens[:, : int(chosen.prompt_lengths[0])]


def permuted_prompts(examples: Examples, prompts: int = PROMPTS, permutations: int = PERMUTATIONS) -> PermutedPrompts:
    """Random permutations of `same_length_prompts`, the same in every call. Some may leave a prompt unchanged."""
    chosen = same_length_prompts(examples, prompts)
    count, length = chosen.shape
    before = np.tile(np.arange(length - 1), (count, permutations, 1))
    shuffled = np.random.default_rng(0).permuted(before, axis=-1)
    orders = np.concatenate((shuffled, np.full((count, permutations, 1), length - 1)), axis=-1)
    return PermutedPrompts(chosen, torch.from_numpy(orders))


def total_variation(
    before: Float[Tensor, "*#shape vocabulary"], after: Float[Tensor, "*#shape vocabulary"]
) -> Float[Tensor, "..."]:
    """Total variation distance of the predictions with these logits: 0 if equal, 1 if they have no token in common."""
    return (before.softmax(-1) - after.softmax(-1)).abs().sum(-1) / 2
