"""All the measurements there are: every function of this folder that is marked as one.

The `analyze` stage applies all of them to every member; the report gives each a section. Neither names any.
"""

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path

from pipeline.measurement.registry import REGISTERED, Measurement


@cache
def measurements() -> dict[str, Measurement]:
    """By name, in the order of their names."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        import_module(f"{__package__}.{module.name}")
    return dict(sorted(REGISTERED.items()))
