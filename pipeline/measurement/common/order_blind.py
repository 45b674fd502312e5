"""Decide which architectures cannot represent the order of their input."""

from typing import get_args

from pipeline.params import Model
from pipeline.params.model import PositionSubstitute


def is_order_blind(model: Model) -> bool:
    """Return True if the architecture alone rules out that the order of earlier tokens affects a prediction.

    Without positional encoding, full attention treats the tokens of a prefix as a set. A causal mask in the last layer
    alone changes nothing, because the position that predicts attends to all earlier ones anyway. A causal mask in any
    layer before breaks the symmetry: states then depend on how many tokens come before each. Without such a mask,
    position still enters through a substitute that differs between positions, if a later layer attends to it. With
    width 1, a layer norm maps all states to one value.
    """
    last = model.layers - 1
    encodes_position = model.residual_substitute in get_args(PositionSubstitute)
    position_is_visible = encodes_position and any(layer < last for layer in model.residual_free.layers)
    is_set = "causal" not in model.attention_by_layer[:last] and not position_is_visible
    return model.width == 1 or (model.final_positional == "none" and is_set)
