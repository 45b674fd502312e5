"""All measurements: every module of this folder defines one, under the module's own name.

The `analyze` stage takes all of them of every model, and the report shows each in a section.
"""

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path

from pipeline.measurement.registry import Measurement


@cache
def measurements() -> dict[str, Measurement]:
    """Return all measurements by name, in alphabetical order."""
    modules = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if not module.ispkg]
    names = sorted({*modules} - {"catalogue", "registry"})
    return {name: getattr(import_module(f"{__package__}.{name}"), name) for name in names}
