"""Interchange: which states carry the order of two tokens? (Interchange interventions, Geiger et al. 2021, arXiv
2106.02997: states of a prompt with two tokens swapped are patched into the original prompt.)"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pipeline.dataset import Examples
from pipeline.measurement.common.permutations import LOGIT_TOLERANCE, PROMPT_COUNT, same_length_prompts
from pipeline.measurement.registry import MeasurementInput, measurement
from pipeline.transformer.attention import last_position
from pipeline.transformer.model import Transformer, edit_at_depth


@measurement(
    "Which states carry the order of two tokens?", {"recovery": "share of a swap's effect that its states recover"}
)
def interchange(inputs: MeasurementInput) -> pd.DataFrame:
    """Share of the effect of swapping two tokens on the first prediction that is recovered by patching the states of
    the swapped prompt at one depth and some positions: the swapped pair, the last position, or the rest. At depth 0 the
    pair has the whole effect, after the last layer the last position has it. Where the pair's share falls, the order of
    the two tokens is no longer in their own states."""
    prompts, pairs = swappable_prompts(inputs.examples)
    recovery = swap_recovery(inputs.model, prompts, pairs)
    return pd.DataFrame(
        [
            {"positions": name, "depth": depth, "recovery": recovery[depth, index].item()}
            for index, name in enumerate(position_sets(pairs, prompts.shape[1]))
            for depth in range(len(recovery))
        ]
    )


def swappable_prompts(
    examples: Examples, prompt_count: int = PROMPT_COUNT
) -> tuple[Int[Tensor, "prompts length"], Int[Tensor, "prompts 2"]]:
    """Return prompts of one length, each with a pair of positions to swap; every call returns the same pairs.

    The tokens at the two positions differ, come before the last token, and vary between prompts. Prompts without such a
    pair are left out.
    """
    tokens = same_length_prompts(examples, prompt_count).numpy()
    length = tokens.shape[1]
    varying = np.flatnonzero((tokens != tokens[:1]).any(0))
    varying = varying[varying < length - 1]
    generator, prompts, pairs = np.random.default_rng(0), [], []
    for prompt in tokens:
        order = generator.permutation(varying)
        differing = [(order[0], other) for other in order[1:] if prompt[order[0]] != prompt[other]]
        if differing:
            prompts.append(prompt)
            pairs.append(sorted(differing[0]))
    return (
        torch.from_numpy(np.array(prompts, np.int64).reshape(-1, length)),
        torch.from_numpy(np.array(pairs, np.int64).reshape(-1, 2)),
    )


def position_sets(pairs: Int[Tensor, "prompts 2"], length: int) -> dict[str, Bool[Tensor, "prompts length"]]:
    """Return the named sets of positions, as masks, at which states of the swapped prompt are patched in."""
    position = torch.arange(length)
    pair = (position == pairs[:, :1]) | (position == pairs[:, 1:])
    last = (position == length - 1).expand_as(pair)
    return {"swapped pair": pair, "last": last, "rest": ~(pair | last), "all but the last": ~last}


@torch.no_grad()
def swap_recovery(
    model: Transformer, prompts: Int[Tensor, "prompts length"], swapped_positions: Int[Tensor, "prompts 2"]
) -> Float[Tensor, "depths sets"]:
    """Share of a swap's effect on the logits that patching recovers, by depth and by set of patched positions.

    0 if the logits stay those of the original prompts, 1 if they become those of the swapped prompts. The share
    is of the squared distance summed over prompts, so that prompts with little effect have little weight. NaN if no
    swap has an effect, or without prompts.
    """
    sets = position_sets(swapped_positions, prompts.shape[1]).values()
    unknown = torch.full((len(model.blocks) + 1, len(sets)), torch.nan, dtype=model.embedding.weight.dtype)
    if not len(prompts):
        return unknown
    swapped_prompts = prompts.scatter(1, swapped_positions, prompts.gather(1, swapped_positions.flip(1)))
    original, swapped = (model.samples(tokens, last_position(tokens)) for tokens in (prompts, swapped_prompts))
    original_stream, swapped_stream = (model.residual_stream(*samples[:2]) for samples in (original, swapped))
    before, goal = (model.logits(stream[-1][:, -1:]) for stream in (original_stream, swapped_stream))
    effect = goal - before
    if effect.abs().max() <= LOGIT_TOLERANCE:
        return unknown

    def patched_logits(depth: int, is_patched: Bool[Tensor, "prompts length"]) -> Tensor:
        patch = edit_at_depth(depth, lambda x: torch.where(is_patched[..., None], swapped_stream[depth], x))
        return model.logits(model.residual_stream(*original[:2], edit_states=patch)[-1][:, -1:])

    recovered = [
        [((patched_logits(depth, patched) - before) * effect).sum() for patched in sets]
        for depth in range(len(original_stream))
    ]
    return torch.tensor(recovered, dtype=effect.dtype) / effect.square().sum()
