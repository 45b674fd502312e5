"""Pages: figures and tables in Markdown, and Markdown as one self-contained HTML file."""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib.figure
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markdown_it import MarkdownIt

from pipeline.reporting.wording import format_number, percent

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(),
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A figure of the page, drawn when the page is written."""

    name: str  # of the figure's file, without suffix
    title: str  # what the figure shows, for readers who cannot see it
    caption: str
    draw: Callable[[], matplotlib.figure.Figure]


def show_picture(picture: Picture) -> str:
    """Return the Markdown that shows a figure with its caption."""
    return f"![{picture.title}](figures/{picture.name}.webp)\n\n*{picture.title}.* {picture.caption}"


def captioned(table: pd.DataFrame, caption: str = "") -> str:
    """Return a table in Markdown, below its caption; empty if the table has no rows."""
    if table.empty:
        return ""
    numeric = [table[name].str.match(r"[\d<>+−–(]|at (?:least|most)|more than|up to|$").all() for name in table]
    sides = ["right" if is_numeric else "left" for is_numeric in numeric]
    escaped = table.map(lambda text: text.replace("|", "\\|"))
    return f"{caption}\n\n{escaped.to_markdown(index=False, disable_numparse=True, colalign=sides)}\n"


def render_template(name: str, **content: Any) -> str:
    """Return a page in Markdown, from a template and what it refers to; paragraphs are one empty line apart."""
    return re.sub(r"\n{3,}", "\n\n", TEMPLATES.get_template(name).render(content)).strip() + "\n"


def heading_anchor(heading: str) -> str:
    """Return the fragment of a heading's address, as code hosts build it, such as `is-position-readable`."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def render_html(title: str, markdown: str, images: Mapping[str, bytes]) -> str:
    """Return Markdown as one HTML file. Links to `details.md#...` become links within it, and those to the `summary.md`
    of another report become links to its page.

    `images` is the content of each image in WebP, by its path in the text.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("table_open", lambda *_: '<div class="table" tabindex="0"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens, contents = parser.parse(markdown), []
    for token, inline in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", heading_anchor(inline.content))
            contents.append((int(token.tag[1]), inline.content, heading_anchor(inline.content)))
        elif "style" in token.attrs and token.attrs.pop("style") == "text-align:right":  # of a cell; a class is shorter
            token.attrs["class"] = "n"
    for child in (child for token in tokens for child in token.children or []):
        if child.type == "image" and (image := images.get(str(child.attrs["src"]))):
            content = f"data:image/webp;base64,{base64.b64encode(image).decode()}"
            child.attrs |= {"src": content, "tabindex": "0", "title": "Click to enlarge"}
        elif child.type == "link_open":
            address = str(child.attrs["href"]).removeprefix("details.md")
            child.attrs["href"] = re.sub(r"(?<=/)summary\.md(?=#|$)", "index.html", address)
    body = parser.renderer.render(tokens, parser.options, {})
    return TEMPLATES.get_template("page.html").render(title=title, contents=contents, body=body)


TEMPLATES.filters |= {"captioned": captioned, "percent": percent}
TEMPLATES.globals |= {"format_number": format_number, "heading_anchor": heading_anchor}
