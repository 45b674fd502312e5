"""Symmetry: does the prediction depend on the order of earlier tokens, as the architecture says?"""

import pandas as pd

from pipeline.errors import RunError
from pipeline.measurement.common.interventions import LOGIT_TOLERANCE, permuted_prompts, total_variation
from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.measurement.registry import MeasurementInput, measurement


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
        RunError: the model depends on order although its architecture cannot, or the reverse.
    """
    permuted, architecture = permuted_prompts(inputs.examples), inputs.ablation.model
    logits = inputs.model.logits(inputs.permuted_stream[-1, :, :, -1])
    before, after = logits[:, :1], logits[:, 1:]
    change = (before - after).abs().max().item()
    order_blind, tolerance = is_order_blind(architecture), LOGIT_TOLERANCE
    if not order_blind:
        # A tiny share of the differences between prompts, because many layers without residual connection leave little
        # of any difference: a smaller change does not prove that a model depends on order.
        tolerance *= (before.amax(0) - before.amin(0)).max().item()
    if (permuted.tokens != permuted.prompts[:, None]).any() and (change > tolerance) == order_blind:
        raise RunError(
            f"{inputs.ablation.name}: permuting earlier tokens changes a logit by {change:.3g}, but with positional "
            f"{architecture.final_positional} and attention {' '.join(architecture.attention_by_layer)} it "
            f"{'must not' if order_blind else 'must'} change any (tolerance {tolerance:g}); this is a bug in the code"
        )
    results = {
        "order_blind_predicted": int(order_blind),
        "max_logit_change": change,
        "total_variation": total_variation(before, after).mean().item(),
        "changed_argmax_share": (before.argmax(-1) != after.argmax(-1)).double().mean().item(),
    }
    return pd.DataFrame([results])
