"""Claims in words: Jinja templates, which lie beside what makes the claims, and the filters that write a number."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.reporting import wording
from pipeline.reporting.claims import Claim, Estimate

TEMPLATES = Path(__file__).parent


@cache
def environment(*, html: bool = False) -> Environment:
    """Jinja's environment, with the filters of `wording`: `value`, `sure`, `brief`, `number`, `percent`, `noun`,
    `plural`, `listed`. Only with `html` what is put in is escaped."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {name: getattr(wording, name) for name in (
        "value", "with_interval", "brief", "number", "percent", "plural", "listed",
    )}  # fmt: skip
    made.filters["noun"] = noun
    return made


def noun(count: Estimate, word: str) -> str:
    """The word alone, in the number that the count asks for."""
    return word if count.value == 1 else f"{word}s"


def sentence(template: str, claim: Claim) -> str:
    """A claim in words, on one line. `template`: its file below `reporting/`."""
    said = _macro(template, claim.sentence)(**claim.estimates, **claim.words)
    return " ".join(said.split())


def explanation(template: str, words: dict[str, Any]) -> list[str]:
    """What a section says before its claims, as paragraphs; none where its template says nothing."""
    module = environment().get_template(template).module if (TEMPLATES / template).exists() else None
    if not hasattr(module, "explanation"):
        return []
    return [text.strip() for text in re.split(r"\n{2,}", str(_macro(template, "explanation")(**words))) if text.strip()]


def text(template: str) -> list[str]:
    """A template without numbers, as paragraphs."""
    return environment().get_template(template).render().strip().split("\n\n")


def _macro(template: str, name: str) -> Any:
    return getattr(environment().get_template(template).module, name)
