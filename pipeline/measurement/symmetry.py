"""Symmetry: does the prediction depend on the order of earlier tokens, as the architecture says?"""

import math

import pandas as pd
import torch

from pipeline.errors import RunError
from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.measurement.common.permutations import LOGIT_TOLERANCE, PermutedPrompts, permuted_prompts, total_variation
from pipeline.measurement.registry import MeasurementInput, measurement
from pipeline.params import Ablation
from pipeline.transformer.attention import last_position
from pipeline.transformer.model import Transformer


class SymmetryError(RunError):
    """Error: a model depends on token order although its architecture cannot, or the reverse: a bug in this code."""


@measurement(
    "Is the prediction blind to order?",
    {
        "max_logit_change": "largest change of a logit",
        "total_variation": "mean total variation between predictions",
        "changed_argmax_share": "share of changed arg-maxes",
    },
)
def symmetry(inputs: MeasurementInput) -> pd.DataFrame:
    """Change of the prediction for token n+1 when the tokens 1 to n-1 of a prompt are permuted, in float64.

    Raises:
        SymmetryError: the model depends on order although its architecture cannot, or the reverse.
    """
    permuted = permuted_prompts(inputs.examples)
    changes = prediction_changes(inputs.model, permuted)
    order_blind = is_order_blind(inputs.ablation.model)
    tolerance = rounding_tolerance(inputs.model, permuted)
    check_symmetry(order_blind, changes["max_logit_change"], inputs.ablation, tolerance=tolerance)
    return pd.DataFrame([{"order_blind_predicted": int(order_blind), **changes}])


@torch.no_grad()
def prediction_changes(model: Transformer, permuted: PermutedPrompts) -> dict[str, float]:
    """Return how much a model's predictions change when prompts are permuted, as columns of the table of `symmetry`."""
    prompts, permutations, length = permuted.token_orders.shape
    tokens = torch.cat((permuted.prompts[:, None], permuted.tokens), dim=1).reshape(-1, length)
    logits = model(tokens, last_position(tokens)).view(prompts, permutations + 1, -1)
    before, after = logits[:, :1], logits[:, 1:]
    return {
        "max_logit_change": (before - after).abs().max().item(),
        "total_variation": total_variation(before, after).mean().item(),
        "changed_argmax_share": (before.argmax(-1) != after.argmax(-1)).double().mean().item(),
    }


@torch.no_grad()
def rounding_tolerance(model: Transformer, permuted: PermutedPrompts) -> float:
    """Largest change of a logit that counts as rounding: it does not prove that a model depends on order.

    The tolerance is a tiny share of the differences between prompts, because many layers without residual connection
    leave little of any difference. It is minus infinity if no permutation changes a prompt.
    """
    if not (permuted.tokens != permuted.prompts[:, None]).any():
        return -math.inf
    logits = model(permuted.prompts, last_position(permuted.prompts))
    return LOGIT_TOLERANCE * (logits.amax(0) - logits.amin(0)).max().item()


def check_symmetry(
    is_order_blind_by_design: bool, max_logit_change: float, ablation: Ablation, *, tolerance: float = LOGIT_TOLERANCE
) -> None:
    """Raise `SymmetryError` if a model depends on token order and its architecture cannot, or the reverse.

    Args:
        tolerance: `rounding_tolerance` of the model.
    """
    if is_order_blind_by_design:
        disagree, verb, bound = max_logit_change > LOGIT_TOLERANCE, "must not", LOGIT_TOLERANCE
    else:
        disagree, verb, bound = max_logit_change <= tolerance, "must", tolerance
    if disagree:
        model = ablation.model
        raise SymmetryError(
            f"{ablation.name}: permuting earlier tokens changes a logit by {max_logit_change:.3g}, but with positional "
            f"{model.positional}, attention {model.attention} and {model.layers} layers it {verb} change any "
            f"(tolerance {bound:g}); this is a bug in the code"
        )
