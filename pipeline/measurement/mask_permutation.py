"""Mask permutation: in which layers does the order imposed by the causal mask affect the prediction?"""

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pipeline.dataset import Examples
from pipeline.measurement.common.permutations import permuted_prompts, same_length_examples, total_variation
from pipeline.measurement.common.scoring import answer_logits, correct_answers
from pipeline.measurement.registry import MeasurementInput, measurement
from pipeline.transformer.attention import Samples
from pipeline.transformer.model import Transformer


@measurement(
    "In which layers does the order of the mask matter?",
    {
        "total_variation": "mean total variation between predictions",
        "exact_match_lost": "exact match lost",
    },
    reference=0.0,
    counts_answers=True,
)
@torch.no_grad()
def mask_permutation(inputs: MeasurementInput) -> pd.DataFrame:
    """Change of the prediction, in float64, and loss of exact match when the causal masks of some layers are permuted
    as if the tokens before the prompt's last were in another order: in each layer alone, and in all layers. Without
    positional encoding, permuting all masks is the same as permuting the prompt. In the last layer alone it changes
    nothing: the position that is read attends to all earlier ones in any order."""
    model, layers = inputs.model, range(len(inputs.model.blocks))
    examples = same_length_examples(inputs.examples)
    orders = permuted_prompts(inputs.examples, len(examples)).orders
    before = answer_logits(model, examples)
    correct = correct_answers(before, examples).double().mean()
    results = []
    for name, permuted_layers in {**{str(layer): (layer,) for layer in layers}, "all": tuple(layers)}.items():
        after = [logits_with_permuted_masks(model, examples, order, permuted_layers) for order in orders.unbind(1)]
        changes = torch.stack([total_variation(before[:, 0], logits[:, 0]) for logits in after])
        lost = correct - torch.stack([correct_answers(logits, examples) for logits in after]).double().mean()
        results.append({"layers": name, "total_variation": changes.mean().item(), "exact_match_lost": lost.item()})
    return pd.DataFrame(results)


def permute_mask(
    visible: Bool[Tensor, "#samples length length"], rank: Int[Tensor, "samples length"]
) -> Bool[Tensor, "samples length length"]:
    """Permute rows and columns of the mask by `rank`: query i attends to key j if `visible[rank[i], rank[j]]`."""
    samples, length = rank.shape
    by_query = visible.expand(samples, length, length).gather(1, rank[:, :, None].expand(-1, -1, length))
    return by_query.gather(2, rank[:, None, :].expand(-1, length, -1))


def logits_with_permuted_masks(
    model: Transformer, examples: Examples, order: Int[Tensor, "examples prompt"], layers: Sequence[int]
) -> Float[Tensor, "examples reads vocabulary"]:
    """Logits at the answers when the masks of `layers` treat token `order[example, i]` as the i-th of the prompt."""
    rank = torch.arange(examples.tokens.shape[1]).repeat(len(order), 1)
    rank[:, : order.shape[1]] = order.argsort(-1)

    def mask(samples: Samples) -> Bool[Tensor, "layers samples _ _"]:
        samples_per_example = len(samples.tokens) // len(examples)
        permuted = permute_mask(samples.visible, rank.repeat_interleave(samples_per_example, 0))
        usual = samples.visible.expand_as(permuted)
        return torch.stack([permuted if layer in layers else usual for layer in range(len(model.blocks))])

    return answer_logits(model, examples, mask=mask)
