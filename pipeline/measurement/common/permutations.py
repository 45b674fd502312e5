"""Prompts of one length, permutations of their tokens, and the distance between two predictions."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.dataset import Examples

PROMPT_COUNT, PERMUTATION_COUNT = 64, 4
LOGIT_TOLERANCE = 1e-9
"""Largest change of a logit, in float64, that counts as no change."""


class PermutedPrompts(NamedTuple):
    """Prompts of one length, and permutations of the tokens before each prompt's last one."""

    prompts: Int[Tensor, "prompts length"]
    token_orders: Int[Tensor, "prompts permutations length"]
    """Token `k` of permutation `i` of prompt `p` is the prompt's token `token_orders[p, i, k]`; the last one stays."""

    @property
    def tokens(self) -> Int[Tensor, "prompts permutations length"]:
        """Tokens of the permuted prompts."""
        return self.prompts[:, None, :].expand_as(self.token_orders).gather(-1, self.token_orders)


def same_length_examples(examples: Examples, example_count: int = PROMPT_COUNT) -> Examples:
    """Return the first examples whose prompts have the most common length (the shortest of equally common ones)."""
    lengths = examples.prompt_lengths
    length = int(np.bincount(lengths).argmax())
    return examples[(lengths == length).nonzero()[:example_count, 0]]


def same_length_prompts(examples: Examples, prompt_count: int = PROMPT_COUNT) -> Int[Tensor, "prompts length"]:
    """Return the prompts of `same_length_examples`: the first prompts of the most common length."""
    chosen = same_length_examples(examples, prompt_count)
    return chosen.tokens[:, : int(chosen.prompt_lengths[0])]


def permuted_prompts(
    examples: Examples, prompt_count: int = PROMPT_COUNT, permutation_count: int = PERMUTATION_COUNT
) -> PermutedPrompts:
    """Permute `same_length_prompts` at random; every call returns the same. Some permutations may change nothing."""
    chosen = same_length_prompts(examples, prompt_count)
    count, length = chosen.shape
    before = np.tile(np.arange(length - 1), (count, permutation_count, 1))
    shuffled = np.random.default_rng(0).permuted(before, axis=-1)
    orders = np.concatenate((shuffled, np.full((count, permutation_count, 1), length - 1)), axis=-1)
    return PermutedPrompts(chosen, torch.from_numpy(orders))


def total_variation(
    before: Float[Tensor, "*#shape vocabulary"], after: Float[Tensor, "*#shape vocabulary"]
) -> Float[Tensor, "..."]:
    """Return the total variation distance between two predictions: 0 if equal, 1 if no token is likely in both."""
    return (before.softmax(-1) - after.softmax(-1)).abs().sum(-1) / 2
