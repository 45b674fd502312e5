"""What is decided: the comparisons that get a p-value."""

from typing import Literal

from pipeline.params.config import Config

Quantity = Literal["restricted_steps", "test_exact_match", "test_bits"]


class Comparison(Config):
    """Two ablations that share seeds, declared before they are trained: is `first` more than `second`?"""

    first: str
    second: str
    quantity: Quantity = "restricted_steps"
    """Steps to converge, up to the budget; or the test exact match of the last step; or test bits per token."""
