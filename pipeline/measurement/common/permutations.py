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
    """Prompts of one length, and permutations of the tokens before the last token of each prompt."""

    prompts: Int[Tensor, "prompts length"]
    token_orders: Int[Tensor, "prompts permutations length"]
    """Token `k` of permutation `i` of prompt `p` is the prompt's token `token_orders[p, i, k]`; the last one stays."""

    @property
    def tokens(self) -> Int[Tensor, "prompts permutations length"]:
        """Tokens of the permuted prompts."""
        return self.prompts[:, None].take_along_dim(self.token_orders, dim=-1)


def same_length_examples(examples: Examples, example_count: int = PROMPT_COUNT) -> Examples:
    """Return examples whose prompts have one length: the most common length, or the shortest of several."""
    lengths = examples.prompt_lengths
    length = int(np.bincount(lengths).argmax())
    return examples[(lengths == length).nonzero()[:example_count, 0]]


def same_length_prompts(examples: Examples, prompt_count: int = PROMPT_COUNT) -> Int[Tensor, "prompts length"]:
    """Return prompts that have one length: the most common length, or the shortest of several."""
    chosen = same_length_examples(examples, prompt_count)
    return chosen.tokens[:, : int(chosen.prompt_lengths[0])]


def permuted_prompts(
    examples: Examples, prompt_count: int = PROMPT_COUNT, permutation_count: int = PERMUTATION_COUNT
) -> PermutedPrompts:
    """Permute all tokens but the last of prompts of one length, at random; every call returns the same permutations."""
    chosen = same_length_prompts(examples, prompt_count)
    count, length = chosen.shape
    before = np.tile(np.arange(length - 1), (count, permutation_count, 1))
    shuffled = np.random.default_rng(0).permuted(before, axis=-1)
    orders = np.concatenate((shuffled, np.full((count, permutation_count, 1), length - 1)), axis=-1)
    return PermutedPrompts(chosen, torch.from_numpy(orders))


def total_variation(
    first_logits: Float[Tensor, "*#shape vocabulary"], second_logits: Float[Tensor, "*#shape vocabulary"]
) -> Float[Tensor, "..."]:
    """Return the total variation distance between two predictions: 0 if equal, 1 if no token is likely in both."""
    return (first_logits.softmax(-1) - second_logits.softmax(-1)).abs().sum(-1) / 2
