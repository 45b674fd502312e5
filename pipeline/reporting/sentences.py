"""Sentences: a claim put into words by a Jinja template, whose filters write the numbers."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.reporting import wording
from pipeline.reporting.claims import Claim, Estimate

TEMPLATES = Path(__file__).parent
FILTERS = ("value", "with_interval", "brief", "number", "percent", "plural", "listed")
"""The functions of `wording` that templates use as filters."""


@cache
def environment(*, html: bool = False) -> Environment:
    """Return Jinja's environment with the filters of `wording`; inserted text is escaped if `html` is set."""
    result = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    result.filters |= {name: getattr(wording, name) for name in FILTERS} | {"noun": noun}
    return result


def noun(count: Estimate, word: str) -> str:
    """Return the noun in the singular or plural that the count needs."""
    return word if count.value == 1 else f"{word}s"


def sentence(template: str, claim: Claim) -> str:
    """Return a claim in words, on one line; `template` is a path relative to `reporting/`."""
    text = _macro(template, claim.sentence)(**claim.estimates, **claim.words)
    return " ".join(text.split())


def explanation(template: str, words: dict[str, Any]) -> list[str]:
    """Return the paragraphs that open a section; none if its template has no macro `explanation`."""
    module = environment().get_template(template).module if (TEMPLATES / template).exists() else None
    if not hasattr(module, "explanation"):
        return []
    text = str(_macro(template, "explanation")(**words))
    return [paragraph.strip() for paragraph in re.split(r"\n{2,}", text) if paragraph.strip()]


def paragraphs(template: str) -> list[str]:
    """Return the paragraphs of a template that takes no values."""
    return environment().get_template(template).render().strip().split("\n\n")


def _macro(template: str, name: str) -> Any:
    return getattr(environment().get_template(template).module, name)
