"""Questions whose whole answers are predicted at once, each token given the true ones before it: what greedy decoding
gets right, at a fraction of the cost, and while the network is interfered with."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pipeline.dataset.rows import Rows, is_correct
from pipeline.measurement.symmetry import PROMPTS, same_length_examples
from pipeline.transformer.attention import select_positions
from pipeline.transformer.model import Edit, Transformer


@dataclass(frozen=True)
class Asked:
    """Rows whose prompts are alike long."""

    tokens: Int[Tensor, "rows length"]
    positions: Int[Tensor, "rows reads"]
    targets: Int[Tensor, "rows reads"]

    def logits(
        self,
        model: Transformer,
        *,
        visible: Callable[[Bool[Tensor, "#samples length length"], int], Tensor] = lambda visible, apart: visible,
        edit: Edit = lambda depth, x: x,
    ) -> Float[Tensor, "rows reads vocabulary"]:
        """What the model predicts. `visible`: who sees whom, made from who usually does and from how many samples a row
        makes; `edit`: as of the transformer, with the states at all positions."""
        samples = model.pattern.samples(self.tokens, self.positions)
        apart = len(samples.tokens) // len(self.tokens)
        last = model.residual_stream(samples.tokens, visible(samples.visible, apart), edit=edit)[-1]
        return model.logits(select_positions(last, samples.read_at)).view(*self.positions.shape, -1)

    def right(self, logits: Float[Tensor, "rows reads vocabulary"]) -> Bool[Tensor, " rows"]:
        """Whether the whole answer is right."""
        return is_correct(logits.argmax(-1), self.targets).all(-1)


def answered_examples(rows: Rows, count: int = PROMPTS) -> Asked:
    """The first `count` rows with prompts of the commonest length."""
    alike, _ = same_length_examples(rows, count)
    return Asked(*map(torch.from_numpy, rows.asked(alike)))
