"""Mask permutation: in which layers does the order imposed by the causal mask affect the prediction?"""

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pipeline.measurement.common import interventions
from pipeline.measurement.common.scoring import exact_match
from pipeline.measurement.registry import MeasurementInput, measurement


@measurement(
    "In which layers does the order of the mask matter?",
    {"total_variation": "mean total variation between predictions", "exact_match_lost": "exact match lost"},
    no_effect_value=0.0,
    needs_answers=True,
)
def mask_permutation(inputs: MeasurementInput) -> pd.DataFrame:
    """Change of the prediction, in float64, and loss of exact match when the causal masks of some layers are permuted
    as if the tokens before the prompt's last were in another order: in each layer alone, and in all layers. Without
    positional encoding, permuting all masks is the same as permuting the prompt. Permuting the last layer's mask alone
    changes nothing: the position that predicts attends to all earlier ones in any order."""
    layers = range(len(inputs.model.blocks))
    examples = interventions.same_length_examples(inputs.examples)
    orders = interventions.permuted_prompts(inputs.examples).token_orders.unbind(1)
    before = interventions.ForwardPass(inputs.model, examples.tokens, examples.positions)
    results = []
    for name, permuted_layers in {**{str(layer): (layer,) for layer in layers}, "all": tuple(layers)}.items():
        after = torch.stack([logits_with_permuted_masks(before, order, permuted_layers) for order in orders])
        change = interventions.total_variation(before.logits[:, 0], after[:, :, 0]).mean()
        lost = exact_match(before.logits, examples) - exact_match(after, examples)
        results.append({"layers": name, "total_variation": change.item(), "exact_match_lost": lost.item()})
    return pd.DataFrame(results)


def permute_mask(
    attention_mask: Bool[Tensor, "#samples length length"], token_ranks: Int[Tensor, "samples length"]
) -> Bool[Tensor, "samples length length"]:
    """Return a mask in which query i attends to key j if `attention_mask[token_ranks[i], token_ranks[j]]`."""
    by_query = attention_mask.take_along_dim(token_ranks[:, :, None], dim=1)
    return by_query.take_along_dim(token_ranks[:, None, :], dim=2)


def logits_with_permuted_masks(
    usual: interventions.ForwardPass, token_order: Int[Tensor, "examples prompt"], layers: Sequence[int]
) -> Float[Tensor, "examples reads vocabulary"]:
    """Return the answers' logits if the masks of `layers` treat token `token_order[example, i]` as the i-th token."""
    tokens, usual_masks, _ = usual.samples
    token_ranks = torch.arange(tokens.shape[1]).repeat(len(token_order), 1)
    token_ranks[:, : token_order.shape[1]] = token_order.argsort(-1)
    token_ranks = token_ranks.repeat_interleave(len(tokens) // len(token_order), 0)
    masks = list(usual_masks.expand(len(usual.model.blocks), *usual_masks.shape[-3:]))
    for layer in layers:
        masks[layer] = permute_mask(masks[layer], token_ranks)
    return usual.continue_from(min(layers), attention_mask=torch.stack(torch.broadcast_tensors(*masks)))
