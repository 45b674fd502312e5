"""Declared comparisons of ablations: the only ones that get a p-value."""

from typing import Literal

from pipeline.params.config import Config

Quantity = Literal["restricted_steps", "test_exact_match", "test_bits"]


class Comparison(Config):
    """A comparison of two ablations that share seeds, declared before they are trained."""

    first: str
    second: str
    quantity: Quantity = "restricted_steps"
    """Steps to converge (at most the budget), or exact match or bits per token on the test split."""
