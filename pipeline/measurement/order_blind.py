"""Which architectures cannot know the order of their input."""

from pipeline.params import Model

OF_A_SLOT = ("other-row", "slot-mean", "noise")
"""Substitutes that give each position something of its own, whatever its token, and so encode it."""


def is_order_blind(model: Model) -> bool:
    """Whether the architecture alone rules out that the order of earlier tokens matters.

    Without positional encoding, full attention treats the tokens of a prefix as a set. With causal attention and one
    layer, the prediction is a function of the last token and the set of (unordered) values before it; the second
    layer is the first that can tell how many tokens each earlier one had seen. Full attention sees a position that a
    substitute for a residual connection encodes, if a later layer attends to it. A layer norm makes the same of every
    single number, so that a width of 1 sees nothing at all.
    """
    free, last = model.residual_free.layers, model.layers - 1
    encoded = model.residual_substitute in OF_A_SLOT and any(layer < last for layer in free)
    unordered = not last or (model.attention == "full" and not encoded)
    return model.width == 1 or (model.positional == "none" and unordered)
