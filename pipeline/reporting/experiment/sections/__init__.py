"""The sections of the report: a Python file and a template of the same name for each (see `section.py`)."""

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path

from pipeline.reporting.experiment.section import CHAPTERS, REGISTERED_SECTIONS, SectionSpec


@cache
def registered_sections() -> list[SectionSpec]:
    """Import every file of the folder `sections` and return the report's sections in the order of the page."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        import_module(f"{__package__}.{module.name}")
    chapters = list(CHAPTERS)
    return sorted(REGISTERED_SECTIONS, key=lambda spec: (chapters.index(spec.chapter), spec.position, spec.name))
