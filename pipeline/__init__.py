"""Breaking symmetry: how do transformers without positional encoding know the order of their input?

`pipeline.load("nope-causal")` gives a trained model to ask; docs/api.md says what it can do.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api import Answer, TrainedModel, load, trained_ablations

__all__ = ["Answer", "TrainedModel", "load", "trained_ablations"]


def __getattr__(name: str) -> Any:
    """What a person asks for is imported then: a command that needs none of it starts at once."""
    if name in __all__:
        return getattr(import_module(f"{__name__}.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
