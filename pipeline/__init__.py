"""Breaking symmetry: how do transformers without positional encoding know the order of their input?

`pipeline.load("nope-causal")` returns a trained model; docs/api.md describes its methods.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api import Answer, TrainedModel, load, trained_ablations

__all__ = ["Answer", "TrainedModel", "load", "trained_ablations"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that commands without models start fast."""
    if name in __all__:
        return getattr(import_module(f"{__name__}.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
