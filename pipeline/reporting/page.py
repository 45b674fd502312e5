"""A page of sections, rendered as Markdown for a code host and as one self-contained HTML file."""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape
from matplotlib import figure as matplotlib_figure
from PIL import Image

from pipeline.reporting.sentences import jinja_environment


@dataclass(frozen=True)
class Table:
    """A table of the page; the text of its cells may have `code` and **bold** as in Markdown."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure of the page, drawn when the page is written."""

    name: str
    """Name of the figure's file, without `.png`."""
    alternative_text: str
    """Description of the figure for readers who cannot see it."""
    caption: str
    draw: Callable[[], matplotlib_figure.Figure]


@dataclass(frozen=True)
class Section:
    """A section of the page; its paragraphs may have `code`, **bold** and [links](as in Markdown)."""

    title: str
    paragraphs: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()

    @property
    def has_content(self) -> bool:
        """True if the section has a paragraph, a figure or a table."""
        return bool(self.paragraphs or self.figures or self.tables)

    @property
    def anchor(self) -> str:
        """The section's title as the fragment of a URL, such as `is-position-readable`."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    """A page of the report: first screen, sections and appendix."""

    title: str
    opening_paragraphs: Sequence[str]
    """Paragraphs that introduce the experiment."""
    lead_sentences: Sequence[str]
    """Sentences that answer the questions of the experiment."""
    figure: Figure
    """The figure on the first screen of the page."""
    sections: Sequence[Section]
    alarms: Sequence[str] = field(default=())
    """Sentences about faults that make every number of the report suspect; the page begins with them, in red."""
    verdicts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Title, such as `What is decided` -> the sentences below that title."""
    appendix: Mapping[str, Sequence[Section]] = field(default_factory=dict)
    """Chapter of the appendix -> its sections, which are folded in HTML and separate pages in Markdown."""


def render_markdown(page: Page) -> str:
    """Return a page as Markdown, without its appendix; figures are linked by relative path."""
    return _render_template("templates/summary.md", page=page)


def render_appendix(page: Page) -> dict[str, str]:
    """Return the appendix of a page in Markdown: file name -> text of one section."""
    return {
        f"{section.anchor}.md": _render_template("templates/appendix.md", page=page, section=section)
        for sections in page.appendix.values()
        for section in sections
    }


def render_html(page: Page, images: Mapping[str, bytes]) -> str:
    """Return a page as one HTML file that contains all figures; `images` maps the name of each figure to its PNG."""
    inlined = {name: base64.b64encode(_convert_to_webp(content)).decode() for name, content in images.items()}
    return _render_template("templates/index.html", page=page, images=inlined)


def _convert_to_webp(png: bytes) -> bytes:
    """Convert a PNG image to lossless WebP, which takes a third of the bytes."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).save(buffer, format="WEBP", lossless=True, method=4)
    return buffer.getvalue()


def _render_template(template: str, **content: object) -> str:
    templates = jinja_environment(html=template.endswith(".html"))
    templates.filters |= {
        "markdown_to_html": markdown_to_html,
        "cell": lambda text: text.replace("|", "\\|"),
        "numeric": is_numeric_column,
    }
    return re.sub(r"\n{3,}", "\n\n", templates.get_template(template).render(**content))


def is_numeric_column(table: Table, column: int) -> bool:
    """Return True if every cell of a table's column starts like a number; such columns are aligned to the right."""
    return all(re.match(r"[\d<>+−–—\[]|not reached|\s*$", row[column]) for row in table.rows)


def markdown_to_html(text: str) -> Markup:
    """Return text with `code`, **bold** and [links](url) as HTML; everything else is escaped."""
    result = str(escape(text))
    result = re.sub(r"`([^`]+)`", r"<code>\1</code>", result)
    result = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", result)
    return Markup(re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", r'<a href="\2">\1</a>', result))
