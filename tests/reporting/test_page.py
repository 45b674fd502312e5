"""Pages can be read on a wide and a narrow screen, light and dark. Measured by a browser, on the committed report."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.reporting.page import render_html

REPORTS = Path(__file__).parents[2] / "reports"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
MEASURE = """
function measure() {
  const page = document.querySelector("iframe").contentDocument;
  const sizes = selector => [...page.querySelectorAll(selector)].map(
    element => [element.scrollWidth, element.clientWidth, element.getBoundingClientRect().right]);
  const filter = getComputedStyle(page.querySelector("img")).filter;
  const found = {page: sizes("html"), tables: sizes(".table"), images: sizes("img"), filter};
  document.body.textContent = JSON.stringify(found);
}
"""


@pytest.fixture(scope="module")
def report_page() -> str:
    images = {f"figures/{path.name}": path.read_bytes() for path in (REPORTS / "figures").iterdir()}
    return render_html("title", (REPORTS / "summary.md").read_text(), images)


def measure(folder: Path, page: str, width: int, *, dark: bool = False) -> dict[str, Any]:
    """Sizes of the elements of a page in a window of this width: [content's width, width, right end]."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    frame = f'<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{html.escape(page)}"></iframe>'
    (folder / "frame.html").write_text(f"<script>{MEASURE}</script><body onload='measure()'>{frame}</body>")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", scheme, "--dump-dom"]
    done = subprocess.run([*command, str(folder / "frame.html")], capture_output=True, text=True, timeout=120)
    content = re.search(r"<body[^>]*>(\{.*\})", done.stdout)
    assert content, done.stdout[-500:] + done.stderr[-2000:]
    return dict(json.loads(content[1]))


def test_the_summary_fits_into_a_window_of_usual_width(report_page: str, tmp_path: Path) -> None:
    sizes = measure(tmp_path, report_page, 1400)
    assert len(sizes["tables"]) > 1
    assert [size for size in sizes["tables"] if size[0] > size[1]] == []


@pytest.mark.parametrize("width", [400, 1400])
def test_a_figure_is_shown_as_a_whole_at_any_width(report_page: str, tmp_path: Path, width: int) -> None:
    sizes = measure(tmp_path, report_page, width)
    assert sizes["images"]
    assert all(right <= width for _, _, right in sizes["images"])
    assert sizes["page"][0][0] <= width


def test_a_dark_page_has_dark_figures(report_page: str, tmp_path: Path) -> None:
    assert measure(tmp_path, report_page, 1400)["filter"] == "none"
    assert "invert" in measure(tmp_path, report_page, 1400, dark=True)["filter"]


def test_a_page_links_to_the_pages_of_other_reports() -> None:
    page = render_html("title", "[a](../x/reports/summary.md#b) [c](details.md#d) [e](../x/README.md)", {})
    assert re.findall(r'href="([^"]+)"', page) == ["../x/reports/index.html#b", "#d", "../x/README.md"]
