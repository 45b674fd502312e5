"""The sections of the report, a file each, its sentences in a template beside it; `section.py` says what one is."""

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path

from pipeline.reporting.experiment.section import CHAPTERS, SECTIONS, SectionSpec


@cache
def sections() -> list[SectionSpec]:
    """Every section, in the order of the page."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        import_module(f"{__package__}.{module.name}")
    order = list(CHAPTERS)
    return sorted(SECTIONS, key=lambda one: (order.index(one.chapter), one.order, one.name))
