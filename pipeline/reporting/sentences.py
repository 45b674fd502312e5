"""Sentences of a report: Jinja templates put claims into words, and their filters format the numbers."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.reporting import wording
from pipeline.reporting.claims import Claim, Estimate

TEMPLATE_FOLDER = Path(__file__).parent


def choose_noun_form(count: Estimate, singular: str) -> str:
    """Return the noun `singular` if the count is 1, otherwise its plural with `s`."""
    return singular if count.value == 1 else f"{singular}s"


FILTERS = {
    "value": wording.format_value,
    "with_interval": wording.format_with_interval,
    "brief": wording.format_cell,
    "number": wording.format_number,
    "percent": wording.percent,
    "plural": wording.format_count,
    "listed": wording.join_in_words,
    "noun": choose_noun_form,
}
"""Name of a filter in the templates -> the function that formats a number or estimate as text."""


@cache
def jinja_environment(*, html: bool = False) -> Environment:
    """Return the Jinja environment of all report templates; inserted text is escaped for HTML if `html` is set."""
    result = Environment(
        loader=FileSystemLoader(TEMPLATE_FOLDER),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    result.filters |= FILTERS
    return result


def render_sentence(template: str, claim: Claim) -> str:
    """Return a claim as a sentence on one line, by the macro of the template file `template` in `reporting/`."""
    text = _load_macro(template, claim.macro)(**claim.estimates, **claim.words)
    return " ".join(text.split())


def render_explanation(template: str, words: dict[str, Any]) -> list[str]:
    """Return the paragraphs that explain a section, from the macro `explanation` of its template, if it has one."""
    module = jinja_environment().get_template(template).module if (TEMPLATE_FOLDER / template).exists() else None
    if not hasattr(module, "explanation"):
        return []
    text = str(_load_macro(template, "explanation")(**words))
    return [paragraph.strip() for paragraph in re.split(r"\n{2,}", text) if paragraph.strip()]


def render_paragraphs(template: str) -> list[str]:
    """Return the paragraphs of a template that has no placeholders."""
    return jinja_environment().get_template(template).render().strip().split("\n\n")


def _load_macro(template: str, name: str) -> Any:
    return getattr(jinja_environment().get_template(template).module, name)
