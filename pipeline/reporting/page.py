"""The report as a page: a list of sections, written as Markdown for a code host and as one self-contained HTML file.

Another part of the project adds to the report by adding a `Section`.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Table:
    """A table for people: every cell already in words, with `code` and **bold** as in Markdown."""

    headers: list[str]
    rows: list[list[str]]
    caption: str = ""

    def is_numeric(self, column: int) -> bool:
        """Whether the column is set to the right: it holds numbers, not words."""
        return all(re.match(r"[\d<>+−–—\[p]|$", row[column]) for row in self.rows)


@dataclass(frozen=True)
class Figure:
    """A picture in `reports/figures/`."""

    name: str
    """The file's name, such as `exact_match.png`."""
    alternative: str
    """What it shows, for those who do not see it."""
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the report. Paragraphs are text with `code`, **bold** and [links](of Markdown)."""

    title: str
    paragraphs: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    level: int = 2
    """2 for a section, 3 for a part of the one before."""

    @property
    def anchor(self) -> str:
        """The title as it stands in an address."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    alarms: list[str]
    """What makes every number suspect; shown first, in red."""
    lead: list[str]
    """The findings, a sentence each."""
    figure: Figure
    """The main one."""
    sections: list[Section]


def markdown(page: Page) -> str:
    """The page for a code host; figures are named by their relative path."""
    return _render("summary.md", page=page)


def html(page: Page, images: Mapping[str, bytes]) -> str:
    """The page as one file that asks for no other; `images` holds the PNG of every figure, by its name."""
    inlined = {name: base64.b64encode(content).decode() for name, content in images.items()}
    return _render("index.html", page=page, images=inlined)


def _render(template: str, **content: object) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=template.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"marked_up": marked_up, "cell": lambda text: text.replace("|", "\\|")}
    return re.sub(r"\n{3,}", "\n\n", environment.get_template(template).render(**content))


def marked_up(text: str) -> Markup:
    """The little Markdown that paragraphs use, as HTML; everything else is escaped."""
    result = str(escape(text))
    result = re.sub(r"`([^`]+)`", r"<code>\1</code>", result)
    result = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", result)
    return Markup(re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", r'<a href="\2">\1</a>', result))
