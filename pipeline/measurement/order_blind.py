"""Which architectures cannot know the order of their input."""

from pipeline.params import Model


def is_order_blind(model: Model) -> bool:
    """Whether the architecture alone rules out that the order of earlier tokens matters.

    Without positional encoding, full attention treats the tokens of a prefix as a set. With causal attention and one
    layer, the prediction is a function of the last token and the set of (unordered) values before it; the second
    layer is the first that can tell how many tokens each earlier one had seen.
    """
    return model.positional == "none" and (model.attention == "full" or model.layers == 1)
