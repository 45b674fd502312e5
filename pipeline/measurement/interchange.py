"""Interchange: which states carry the order of two tokens? (Interchange interventions, Geiger et al. 2021, arXiv
2106.02997: states of a prompt with two tokens swapped are patched into the original prompt.)"""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pipeline.dataset import Examples
from pipeline.measurement.common.interventions import LOGIT_TOLERANCE, ForwardPass, same_length_prompts
from pipeline.measurement.registry import MeasurementInput, measurement
from pipeline.transformer.attention import last_position


@measurement(
    "Which states carry the order of two tokens?", {"recovery": "share of a swap's effect that its states recover"}
)
def interchange(inputs: MeasurementInput) -> pd.DataFrame:
    """Share of the effect of swapping two tokens on the first prediction that is recovered by patching the states of
    the swapped prompt at one depth and some positions: the swapped pair, the last position, or the rest. At depth 0 the
    pair has the whole effect, after the last layer the last position has it. Where the pair's share falls, the order of
    the two tokens is no longer in their own states.

    The share is of the squared distance between logits summed over prompts, so that prompts with little effect have
    little weight. NaN if no swap has an effect, or without prompts.
    """
    model, (prompts, pairs) = inputs.model, swappable_prompts(inputs.examples)
    swapped, last = prompts.scatter(1, pairs, prompts.gather(1, pairs.flip(1))), last_position(prompts)
    before, goal = (ForwardPass(model, tokens, last) for tokens in (prompts, swapped))
    effect = goal.logits - before.logits
    has_effect = (effect.abs() > LOGIT_TOLERANCE).any()

    def recovery(is_patched: Bool[Tensor, "prompts length"], depth: int) -> float:
        patched = torch.where(is_patched[..., None], goal.stream[depth], before.stream[depth])
        change = before.continue_from(depth, patched) - before.logits
        return ((change * effect).sum() / effect.square().sum()).item() if has_effect else float("nan")

    return pd.DataFrame(
        {"positions": name, "depth": depth, "recovery": recovery(is_patched, depth)}
        for name, is_patched in position_sets(pairs, prompts.shape[1]).items()
        for depth in range(len(goal.stream))
    )


def swappable_prompts(examples: Examples) -> tuple[Int[Tensor, "prompts length"], Int[Tensor, "prompts 2"]]:
    """Return prompts of one length, each with a pair of positions to swap; every call returns the same pairs.

    The tokens at the two positions differ, come before the last token, and vary between prompts. Prompts without such a
    pair are left out.
    """
    tokens = same_length_prompts(examples)
    varying = (tokens != tokens[:1]).any(0)[:-1].nonzero()[:, 0].numpy()
    generator, indices, pairs = np.random.default_rng(0), [], []
    for index, prompt in enumerate(tokens.tolist()):
        order = generator.permutation(varying).tolist()
        if differing := [other for other in order[1:] if prompt[other] != prompt[order[0]]]:
            indices.append(index)
            pairs.append(sorted((order[0], differing[0])))
    return tokens[indices], torch.tensor(pairs, dtype=torch.int64).view(-1, 2)


def position_sets(pairs: Int[Tensor, "prompts 2"], length: int) -> dict[str, Bool[Tensor, "prompts length"]]:
    """Return the named sets of positions, as masks, at which states of the swapped prompt are patched in."""
    position = torch.arange(length)
    pair = (position == pairs[:, :1]) | (position == pairs[:, 1:])
    last = (position == length - 1).expand_as(pair)
    return {"swapped pair": pair, "last": last, "rest": ~(pair | last), "all but the last": ~last}
