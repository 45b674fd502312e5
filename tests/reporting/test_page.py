"""The report as a reader gets it: self-contained, the same bytes each time, refused if results are missing."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as MatplotlibFigure
from PIL import Image

from pipeline import files
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.reporting import page
from pipeline.reporting.page import Figure, Table
from pipeline.reporting.style import draw_png
from pipeline.stages import report
from tests.reporting.experiment import TRAINED, trained


@pytest.fixture
def copied(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The params of a copy of the tiny experiment, which the test may change; it is the current folder."""
    for folder in ("models", "reports/evaluation", "reports/analysis"):
        shutil.copytree(project / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return trained()


def test_the_same_results_give_the_same_bytes_and_other_folders_are_ignored(reports: Path, copied: Params) -> None:
    (Path("models") / "deleted").mkdir()
    report.run(copied)
    names = [path.relative_to(reports) for path in reports.rglob("*") if path.is_file()]
    assert {path.relative_to("reports") for path in Path("reports").rglob("*") if path.is_file()} == set(names)
    for name in names:
        assert (Path("reports") / name).read_bytes() == (reports / name).read_bytes(), name


def test_the_page_is_self_contained_and_its_links_exist(reports: Path) -> None:
    html = (reports / "index.html").read_text()

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "link", "iframe", "object")
            for key, value in attributes:
                assert key != "srcset"
                if key == "src":
                    assert (value or "").startswith("data:image/webp;base64,")

    Links().feed(html)
    assert "url(" not in html
    assert "@import" not in html
    assert 'role="alert"' not in html
    for path in (reports / "summary.md", *(reports / "appendix").iterdir()):
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert link.startswith(("https://", "search/")) or (path.parent / link).exists(), link


def test_pictures_are_readable_and_not_blank(reports: Path) -> None:
    pictures = list((reports / "figures").iterdir())
    assert pictures
    for path in pictures:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert 900 <= image.width <= 1600
            assert 150 <= image.height <= 4000
            assert np.asarray(image.convert("L")).std() > 2, path.name


def test_every_run_and_ablation_has_its_row(reports: Path) -> None:
    """Also one whose name pandas would read as a missing value."""
    for table in ("runs.csv", "symmetry.csv", "measurements/correlation.csv"):
        assert set(pd.read_csv(reports / table, keep_default_na=False)["ablation"]) == set(TRAINED)
    assert len(pd.read_csv(reports / "runs.csv")) == 2 * len(TRAINED)
    metrics = json.loads((reports / "metrics.json").read_text())
    assert set(metrics["converged"]) == set(metrics["restricted_steps"]) == set(TRAINED)
    assert list(pd.read_csv(reports / "symmetry.csv")) == [
        *("ablation", "seed", "trained", "order_blind_predicted"),
        *("max_logit_change", "total_variation", "changed_argmax_share"),
    ]


def refusal(params: Params) -> str:
    with pytest.raises(UserError) as error:
        report.run(params)
    return str(error.value)


def test_missing_or_altered_results_are_refused_with_the_command_that_makes_them(copied: Params) -> None:
    more_seeds = copied.model_copy(update={"training": copied.training.model_copy(update={"seeds": [1, 2, 3]})})
    other = refusal(more_seeds)
    assert "[1, 2]" in other
    assert "[1, 2, 3]" in other
    evaluation = Path("reports/evaluation/null")
    table = pd.read_csv(evaluation / "evaluation.csv", keep_default_na=False)
    digest = files.open_verified_folder(evaluation, creating_command="").subject
    files.write_csv(evaluation / "evaluation.csv", table.drop(columns="optimizer"))
    assert "`python -m pipeline evaluate null`" in refusal(copied)
    files.write_manifest(evaluation, subject=digest)
    assert "'optimizer'" in refusal(copied)
    shutil.rmtree("models/null")
    assert "`python -m pipeline train null`" in refusal(copied)


def test_words_cannot_become_markup() -> None:
    assert str(page.markdown_to_html("a < b, `x`, **y** <script>, [z](runs.csv)")) == (
        'a &lt; b, <code>x</code>, <strong>y</strong> &lt;script&gt;, <a href="runs.csv">z</a>'
    )


def test_a_section_is_rendered_as_markdown_and_as_html() -> None:
    def draw() -> MatplotlibFigure:
        return MatplotlibFigure(figsize=(1, 1))

    figure = Figure("exact_match", "description", "", draw)
    section = page.Section("Symmetry", ["Words."], tables=[Table(["Ablation", "n"], [["`a|b`", "3"]])])
    whole = page.Page("Title", ["Opening."], ["Answer."], figure, [section], alarms=["A bug."])
    assert "## Symmetry\n\nWords.\n\n| Ablation | n |\n| --- | ---: |\n| `a\\|b` | 3 |" in page.render_markdown(whole)
    assert '<h2 id="symmetry">Symmetry</h2>' in page.render_html(whole, {"exact_match": draw_png(draw)})
    assert page.render_markdown(whole).index("A bug.") < page.render_markdown(whole).index("Opening.")
    assert re.search(r'role="alert">.*A bug\.', page.render_html(whole, {"exact_match": draw_png(draw)}))
