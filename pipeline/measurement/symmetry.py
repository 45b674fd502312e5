"""Is the prediction blind to the order of what came before? Predicted from the architecture, then measured."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pipeline.dataset import Examples
from pipeline.errors import RunError
from pipeline.measurement.order_blind import is_order_blind
from pipeline.measurement.registry import MeasurementInput, measurement
from pipeline.params import Ablation
from pipeline.transformer.model import Transformer

TOLERANCE = 1e-9
"""The largest change of a logit, in float64, that counts as none."""
PROMPTS, PERMUTATIONS = 64, 4


class SymmetryError(RunError):
    """A model is not as blind to order as its architecture says it must be, or blinder: a bug in the instrument."""


class PermutedPrompts(NamedTuple):
    """Prompts of one length, and each of them with its tokens before the last in other orders."""

    prompts: Int[Tensor, "prompts length"]
    orders: Int[Tensor, "prompts permutations length"]
    """`orders[p, i]` is where in prompt `p` the tokens of its permutation `i` come from; the last one stays."""

    @property
    def tokens(self) -> Int[Tensor, "prompts permutations length"]:
        """The permuted prompts."""
        return self.prompts[:, None, :].expand_as(self.orders).gather(-1, self.orders)


def same_length_examples(examples: Examples, count: int) -> tuple[Int[Tensor, " examples"], int]:
    """Numbers of the first `count` examples whose prompts have the commonest length (of equals, the shortest), and that
    length."""
    lengths = examples.prompt_lengths
    length = int(np.bincount(lengths).argmax())
    return (lengths == length).nonzero()[:count, 0], length


def permuted_prompts(examples: Examples, prompts: int = PROMPTS, permutations: int = PERMUTATIONS) -> PermutedPrompts:
    """The first `prompts` prompts of the commonest length (of equals, the shortest), with random permutations; always
    the same ones. Permutations that change nothing may be among them."""
    alike, length = same_length_examples(examples, prompts)
    chosen = examples.tokens[alike, :length]
    before = np.tile(np.arange(length - 1), (len(chosen), permutations, 1))
    shuffled = np.random.default_rng(0).permuted(before, axis=-1)
    orders = np.concatenate((shuffled, np.full((*shuffled.shape[:-1], 1), length - 1)), axis=-1)
    return PermutedPrompts(chosen, torch.from_numpy(orders))


@measurement(
    "Is the prediction blind to order?",
    {
        "max_logit_change": "largest change of a logit",
        "total_variation": "mean total variation between predictions",
        "changed_argmax_share": "share of changed arg-maxes",
    },
)
def symmetry(subject: MeasurementInput) -> pd.DataFrame:
    """How much the prediction for token n+1 changes when the tokens 1 to n-1 of a prompt are permuted, in float64.

    Raises:
        SymmetryError: the architecture says otherwise.
    """
    permuted = permuted_prompts(subject.examples)
    measured = change_of_prediction(subject.model, permuted)
    predicted = is_order_blind(subject.ablation.model)
    check(predicted, measured["max_logit_change"], subject.ablation, least=least_change(subject.model, permuted))
    return pd.DataFrame([{"order_blind_predicted": int(predicted), **measured}])


@torch.no_grad()
def least_change(model: Transformer, permuted: PermutedPrompts) -> float:
    """What a logit must move by at least if order counts: next to nothing of what it differs by between prompts (many
    layers without residual connection leave little of any signal); nothing where no permutation changes a prompt."""
    prompts, length = permuted.prompts.shape
    logits = model(permuted.prompts, torch.full((prompts, 1), length - 1))
    differs = (permuted.tokens != permuted.prompts[:, None]).any().item()
    return TOLERANCE * (logits.amax(0) - logits.amin(0)).max().item() if differs else -math.inf


@torch.no_grad()
def change_of_prediction(model: Transformer, permuted: PermutedPrompts) -> dict[str, float]:
    """Of a model in float64: `max_logit_change`; `total_variation` and `changed_argmax_share`, means over prompts and
    permutations."""
    prompts, permutations, length = permuted.orders.shape
    everyone = torch.cat((permuted.prompts[:, None], permuted.tokens), dim=1).reshape(-1, length)
    logits = model(everyone, torch.full((len(everyone), 1), length - 1)).view(prompts, permutations + 1, -1)
    before, after = logits[:, :1], logits[:, 1:]
    return {
        "max_logit_change": (before - after).abs().max().item(),
        "total_variation": total_variation(before, after).mean().item(),
        "changed_argmax_share": (before.argmax(-1) != after.argmax(-1)).double().mean().item(),
    }


def total_variation(
    before: Float[Tensor, "*#shape vocabulary"], after: Float[Tensor, "*#shape vocabulary"]
) -> Float[Tensor, "..."]:
    """Between the predictions that these logits are: 0 where they are alike, 1 where they have nothing in common."""
    return (before.softmax(-1) - after.softmax(-1)).abs().sum(-1) / 2


def check(
    order_blind_predicted: bool, max_logit_change: float, ablation: Ablation, *, least: float = TOLERANCE
) -> None:
    """Raise `SymmetryError` where prediction and measurement disagree. `least`: what would be no change where order
    counts."""
    if max_logit_change > TOLERANCE if order_blind_predicted else max_logit_change <= least:
        verb, model = "must not" if order_blind_predicted else "must", ablation.model
        raise SymmetryError(
            f"{ablation.name}: permuting earlier tokens moves a logit by {max_logit_change:.3g}, but it {verb} "
            f"move any in "
            f"this architecture (positional: {model.positional}, attention: {model.attention}, layers: {model.layers}; "
            f"tolerance {TOLERANCE if order_blind_predicted else least:g}): a bug in the instrument"
        )
