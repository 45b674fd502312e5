"""Breaking symmetry: how do transformers without positional encoding know the order of their input?

`pipeline.load("nope-causal")` returns a trained model; docs/api.md describes its methods.
"""

import re
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api import Answer, TrainedModel, load, trained_ablations

__all__ = ["Answer", "TrainedModel", "load", "trained_ablations"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that commands without models start fast."""
    if name in __all__:
        return getattr(import_module(f"{__name__}.api"), name)
    if name == "__version__":
        project = Path(__file__).parent.parent / "pyproject.toml"  # not there if the package was installed from a wheel
        line = re.search(r'(?m)^version = "(.*)"$', project.read_text("utf-8")) if project.exists() else None
        return line[1] if line else version("breaking-symmetry")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
