"""In which layers the order of the mask matters: the tokens stay, and the mask is told another order of them."""

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pipeline.dataset import Examples
from pipeline.measurement.answers import answer_logits, answered_examples, answers_right
from pipeline.measurement.registry import MeasurementInput, measurement
from pipeline.measurement.symmetry import permuted_prompts, total_variation


def reordered(
    visible: Bool[Tensor, "#samples length length"], rank: Int[Tensor, "samples length"]
) -> Bool[Tensor, "samples length length"]:
    """Who sees whom where position i has the place `rank[i]` in the order: a query sees a key where the one in its
    place saw the one in the key's. Each query sees as many keys as the one in its place did."""
    samples, length = rank.shape
    by_query = visible.expand(samples, length, length).gather(1, rank[:, :, None].expand(-1, -1, length))
    return by_query.gather(2, rank[:, None, :].expand(-1, length, -1))


@measurement(
    "In which layers does the mask's order matter?",
    {
        "total_variation": "mean total variation between predictions",
        "exact_match_lost": "exact match lost",
    },
    reference=0.0,
    of_answers=True,
)
@torch.no_grad()
def mask_order(subject: MeasurementInput) -> pd.DataFrame:
    """How much predictions change, in float64, when the causal mask of some layers is told another order of the
    tokens before the prompt's last, and how much exact match that costs: of each layer alone, and of all. Without
    positional encoding, all is what permuting the prompt is. The last layer alone changes nothing: what is read sees
    all that came before it in any order."""
    model = subject.model
    questions = answered_examples(subject.examples)
    orders = permuted_prompts(subject.examples, len(questions.tokens)).orders
    layers = range(len(model.blocks))
    sets = {**{str(layer): (layer,) for layer in layers}, "all": tuple(layers)}
    before = answer_logits(model, questions)
    right = answers_right(before, questions).double().mean()
    found = []
    for name, chosen in sets.items():
        after = [ordered(subject, questions, orders[:, place], chosen) for place in range(orders.shape[1])]
        changes = torch.stack([total_variation(before[:, 0], logits[:, 0]) for logits in after])
        lost = right - torch.stack([answers_right(logits, questions) for logits in after]).double().mean()
        found.append({"layers": name, "total_variation": changes.mean().item(), "exact_match_lost": lost.item()})
    return pd.DataFrame(found)


def ordered(
    subject: MeasurementInput, questions: Examples, order: Int[Tensor, "rows prompt"], layers: Sequence[int]
) -> Tensor:
    """Logits with the masks of these layers in another order: `order[row, i]` is which token is at place i."""
    rank = torch.arange(questions.tokens.shape[1]).repeat(len(order), 1)
    rank[:, : order.shape[1]] = order.argsort(-1)

    def changed(visible: Bool[Tensor, "#samples length length"], apart: int) -> Bool[Tensor, "layers samples _ _"]:
        told = reordered(visible, rank.repeat_interleave(apart, 0))
        usual = visible.expand_as(told)
        return torch.stack([told if layer in layers else usual for layer in range(len(subject.model.blocks))])

    return answer_logits(subject.model, questions, visible=changed)
