"""Interventions: prompts with permuted tokens, logits of a changed network, and what the change did to predictions."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pipeline.dataset import Examples
from pipeline.transformer.model import Transformer
from pipeline.transformer.substitutes import States

EXAMPLE_COUNT, PERMUTATION_COUNT = 64, 4
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


def same_length_examples(examples: Examples) -> Examples:
    """Return `EXAMPLE_COUNT` examples whose prompts have the most common length (if two are, the shorter)."""
    lengths = examples.prompt_lengths
    length = int(np.bincount(lengths).argmax())
    return examples[(lengths == length).nonzero()[:EXAMPLE_COUNT, 0]]


def same_length_prompts(examples: Examples) -> Int[Tensor, "prompts length"]:
    """Return the prompts of `same_length_examples`."""
    chosen = same_length_examples(examples)
    return chosen.tokens[:, : int(chosen.prompt_lengths[0])]


def permuted_prompts(examples: Examples) -> PermutedPrompts:
    """Permute all tokens but the last of prompts of one length, at random; every call returns the same permutations."""
    prompts = same_length_prompts(examples)
    orders = np.tile(np.arange(prompts.shape[1]), (len(prompts), PERMUTATION_COUNT, 1))
    orders[..., :-1] = np.random.default_rng(0).permuted(orders[..., :-1], axis=-1)
    return PermutedPrompts(prompts, torch.from_numpy(orders))


class ForwardPass:
    """Forward pass of a model over examples, and forward passes that continue from changed states of it.

    If the tokens include the true answer, each token of it is predicted from the true tokens before it (teacher
    forcing); the answer is correct exactly if greedy decoding produces it.
    """

    def __init__(
        self, model: Transformer, tokens: Int[Tensor, "examples length"], positions: Int[Tensor, "examples reads"]
    ) -> None:
        self.model, self.positions = model, positions
        self.samples = model.samples(tokens, positions)
        self.stream: list[States] = model.residual_stream(self.samples.tokens, self.samples.attention_mask)
        """States of the samples at each depth."""
        self.logits = self.continue_from(len(self.stream) - 1)
        """Logits for the token after each of `positions`."""

    def continue_from(
        self,
        depth: int,
        states: States | None = None,
        attention_mask: Bool[Tensor, "*layers #samples length length"] | None = None,
    ) -> Float[Tensor, "examples reads vocabulary"]:
        """Return the logits if the layers after `depth` get other `states` or another attention mask."""
        states = self.stream[depth] if states is None else states
        mask = self.samples.attention_mask if attention_mask is None else attention_mask
        tokens, _, output_positions = self.samples
        last = self.model.residual_stream(tokens, mask, output_positions, start=(depth, states))[-1]
        logits = self.model.logits(last)
        return logits.view(*self.positions.shape, logits.shape[-1])


def total_variation(
    first_logits: Float[Tensor, "*#shape vocabulary"], second_logits: Float[Tensor, "*#shape vocabulary"]
) -> Float[Tensor, "..."]:
    """Return the total variation distance between two predictions: 0 if equal, 1 if no token is likely in both."""
    return (first_logits.softmax(-1) - second_logits.softmax(-1)).abs().sum(-1) / 2
