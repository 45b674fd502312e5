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
    """A table whose cells are text, with `code` and **bold** as in Markdown."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure of the page."""

    name: str
    """File name without `.png`."""
    alternative_text: str
    """Description for readers who cannot see the picture."""
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
        """True if the section has more than its title."""
        return bool(self.paragraphs or self.figures or self.tables)

    @property
    def anchor(self) -> str:
        """The title as the fragment of a URL, such as `is-position-readable`."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    """A page: first screen, sections and appendix."""

    title: str
    opening: Sequence[str]
    """Paragraphs that introduce the experiment."""
    lead: Sequence[str]
    """Sentences that answer its questions."""
    figure: Figure
    """The main figure, shown on the first screen."""
    sections: Sequence[Section]
    alarms: Sequence[str] = field(default=())
    """Sentences about faults that make every number suspect; shown first, in red."""
    verdicts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Title -> sentences on what is decided, what is not, and what would decide it."""
    appendix: Mapping[str, Sequence[Section]] = field(default_factory=dict)
    """Chapter -> its sections. They are folded in the HTML page; in Markdown each is a page of its own."""


def render_markdown(page: Page) -> str:
    """Return the page as Markdown, which names figures by their relative path."""
    return _render_template("templates/summary.md", page=page)


def render_appendix(page: Page) -> dict[str, str]:
    """Return the sections of the appendix as Markdown, by file name."""
    return {
        f"{section.anchor}.md": _render_template("templates/appendix.md", page=page, section=section)
        for sections in page.appendix.values()
        for section in sections
    }


def render_html(page: Page, images: Mapping[str, bytes]) -> str:
    """Return the page as HTML with all pictures inside; `images` maps the name of each figure to its PNG."""
    inlined = {name: base64.b64encode(_convert_to_webp(content)).decode() for name, content in images.items()}
    return _render_template("templates/index.html", page=page, images=inlined)


def _convert_to_webp(png: bytes) -> bytes:
    """Return a PNG as lossless WebP, a third of the bytes."""
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
    """Return True if every cell of the column starts like a number, so that it is aligned to the right."""
    return all(re.match(r"[\d<>+−–—\[]|not reached|\s*$", row[column]) for row in table.rows)


def markdown_to_html(text: str) -> Markup:
    """Return text with `code`, **bold** and [links](url) as HTML; everything else is escaped."""
    result = str(escape(text))
    result = re.sub(r"`([^`]+)`", r"<code>\1</code>", result)
    result = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", result)
    return Markup(re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", r'<a href="\2">\1</a>', result))
