"""Whole answers predicted at once, each token given the true ones before it.

An answer is right here exactly where greedy decoding gets it right, at a fraction of the cost, and the network can be
changed while it computes.
"""

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.dataset import Examples, is_correct
from pipeline.measurement.symmetry import PROMPTS, same_length_examples
from pipeline.transformer.attention import select_positions
from pipeline.transformer.model import Edit, Transformer


def answer_logits(
    model: Transformer,
    examples: Examples,
    *,
    visible: Callable[[Bool[Tensor, "#samples length length"], int], Tensor] = lambda visible, apart: visible,
    edit: Edit = lambda depth, x: x,
) -> Float[Tensor, "examples reads vocabulary"]:
    """Logits at the positions of `examples`, whose prompts have one length.

    Args:
        visible: maps the usual mask, and the number of samples that each example makes, to the mask to use.
        edit: as of the transformer, with the states at all positions.
    """
    samples = model.samples(examples.tokens, examples.positions)
    apart = len(samples.tokens) // len(examples)
    last = model.residual_stream(samples.tokens, visible(samples.visible, apart), edit=edit)[-1]
    return model.logits(select_positions(last, samples.read_at)).view(*examples.positions.shape, -1)


def answers_right(logits: Float[Tensor, "examples reads vocabulary"], examples: Examples) -> Bool[Tensor, " examples"]:
    """Whether each whole answer is right."""
    return is_correct(logits.argmax(-1), examples.targets).all(-1)


def answered_examples(examples: Examples, count: int = PROMPTS) -> Examples:
    """The first `count` examples whose prompts have the commonest length."""
    alike, _ = same_length_examples(examples, count)
    return examples[alike]
