"""A report as a page: a list of sections, written as Markdown for a code host and as one self-contained HTML file."""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape
from matplotlib.figure import Figure as Drawing
from PIL import Image

from pipeline.reporting.sentences import environment


@dataclass(frozen=True)
class Table:
    """A table for people: every cell already in words, with `code` and **bold** as in Markdown."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture."""

    name: str
    """Its file's, without `.png`."""
    alternative: str
    """What it shows, for those who do not see it."""
    caption: str
    draw: Callable[[], Drawing]


@dataclass(frozen=True)
class Section:
    """A part of the report. Paragraphs are text with `code`, **bold** and [links](of Markdown)."""

    title: str
    paragraphs: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    """2 for a section, 3 for a part of the one before."""

    @property
    def has_content(self) -> bool:
        """Whether there is anything but the title."""
        return bool(self.paragraphs or self.figures or self.tables)

    @property
    def anchor(self) -> str:
        """The title as it stands in an address."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    opening: Sequence[str]
    """What it is about."""
    lead: Sequence[str]
    """The answers, a sentence each."""
    figure: Figure
    """The main one."""
    sections: Sequence[Section]
    alarms: Sequence[str] = field(default=())
    """What makes every number suspect; shown first, in red."""
    verdicts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Title -> sentences: what is decided, what is not, what would decide it."""
    appendix: Mapping[str, Sequence[Section]] = field(default_factory=dict)
    """Chapter -> its sections: folded in the HTML page, and a page of their own each beside the Markdown one."""


def markdown(page: Page) -> str:
    """The page for a code host; figures are named by their relative path."""
    return _render("templates/summary.md", page=page)


def appendix(page: Page) -> dict[str, str]:
    """The sections of the appendix for a code host, by the names of their files."""
    return {
        f"{section.anchor}.md": _render("templates/appendix.md", page=page, section=section)
        for sections in page.appendix.values()
        for section in sections
    }


def html(page: Page, images: Mapping[str, bytes]) -> str:
    """The page as one file that asks for no other; `images` holds the PNG of every figure, by its name."""
    inlined = {name: base64.b64encode(_webp(content)).decode() for name, content in images.items()}
    return _render("templates/index.html", page=page, images=inlined)


def _webp(png: bytes) -> bytes:
    """The same picture in a third of the bytes."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).save(buffer, format="WEBP", lossless=True, method=4)
    return buffer.getvalue()


def _render(template: str, **content: object) -> str:
    made = environment(html=template.endswith(".html"))
    made.filters |= {
        "markdown_to_html": markdown_to_html,
        "cell": lambda text: text.replace("|", "\\|"),
        "numeric": is_numeric,
    }
    return re.sub(r"\n{3,}", "\n\n", made.get_template(template).render(**content))


def is_numeric(table: Table, column: int) -> bool:
    """Whether the column is set to the right: it holds numbers, not words."""
    return all(re.match(r"[\d<>+−–—\[]|not reached|\s*$", row[column]) for row in table.rows)


def markdown_to_html(text: str) -> Markup:
    """The little Markdown that paragraphs use, as HTML; everything else is escaped."""
    result = str(escape(text))
    result = re.sub(r"`([^`]+)`", r"<code>\1</code>", result)
    result = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", result)
    return Markup(re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", r'<a href="\2">\1</a>', result))
