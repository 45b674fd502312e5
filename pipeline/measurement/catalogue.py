"""All measurements: every other module of this folder, `registry` aside, defines one with the name of the module."""

import pkgutil
from functools import cache
from importlib import import_module

from pipeline import measurement
from pipeline.measurement.registry import Measurement


@cache
def measurements() -> dict[str, Measurement]:
    """Return all measurements by name, in alphabetical order."""
    modules = {module.name for module in pkgutil.iter_modules(measurement.__path__) if not module.ispkg}
    names = sorted(modules - {"catalogue", "registry"})
    return {name: getattr(import_module(f"{__package__}.{name}"), name) for name in names}
