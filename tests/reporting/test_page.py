"""The report as a reader gets it: self-contained, the same bytes each time, red where the instrument is broken."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure as Drawing

from pipeline import files
from pipeline.errors import UserError
from pipeline.reporting import page
from pipeline.reporting.page import Figure, Table
from pipeline.reporting.style import png
from pipeline.stages import report
from tests.reporting.synthetic import CEILING, Grid, ablation, grid, params, runs, without_pictures, write

FIGURES = {
    "by_carries.png",
    "by_digit.png",
    "not_yet_converged.png",
    "exact_match.png",
    "masks.png",
    "steps.png",
    "learning_curves.png",
    "symmetry.png",
    "slices.png",
}


def written(made: Grid, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(report, "ceiling", lambda task: CEILING)  # takes a second
    report.run(params(made))
    return folder / "reports"


def test_the_whole_report_twice_is_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = dict(list(grid().items())[:5])
    made = [written(few, tmp_path / name, monkeypatch) for name in ("one", "two")]
    assert capsys.readouterr().out.splitlines()[-1] == "The report: reports/index.html"
    files = sorted(path.relative_to(made[0]) for path in made[0].rglob("*") if path.is_file())
    for file in files:
        assert (made[0] / file).read_bytes() == (made[1] / file).read_bytes(), file
    assert {file.name for file in files if file.suffix == ".png"} >= FIGURES

    html, summary = (made[0] / "index.html").read_text(), (made[0] / "summary.md").read_text()
    assert_self_contained(html)
    assert "BUG IN THE INSTRUMENT" not in html + summary
    assert len(summary.splitlines()) < 150
    for path in (made[0] / "summary.md", *(made[0] / "appendix").iterdir()):
        for file in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert file.startswith(("https://", "search/")) or (path.parent / file).exists(), file
    assert len(pd.read_csv(made[0] / "runs.csv")) == 3 * len(few)
    metrics = json.loads((made[0] / "metrics.json").read_text())
    assert set(metrics["converged"]) == set(metrics["restricted_steps"]) == set(few)
    assert metrics["converged"]["nope-causal"] == 3
    symmetry = pd.read_csv(made[0] / "symmetry.csv")
    assert list(symmetry) == [
        *("ablation", "seed", "trained", "order_blind_predicted"),
        *("max_logit_change", "total_variation", "changed_argmax_share"),
    ]


def assert_self_contained(html: str) -> None:
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


def test_a_run_above_the_ceiling_turns_the_report_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pictures(monkeypatch)
    made = {**ablation("nope-causal", [0.99]), **ablation("nope-full", [0.04, 0.5], attention="full")}
    reports = written(made, tmp_path, monkeypatch)
    html, summary = (reports / "index.html").read_text(), (reports / "summary.md").read_text()
    assert '<div class="alarm" role="alert">' in html
    assert re.search(r"\.alarm \{ background: #b00020", html)
    assert "> ⚠️ **BUG IN THE INSTRUMENT.** `nope-full` is order-blind by construction, but 1 of its runs" in summary
    assert summary.index("BUG IN") < summary.index("- Without positional encoding")


def test_ablations_no_longer_in_the_grid_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pictures(monkeypatch)
    write(ablation("stale", [0.1]), tmp_path)
    reports = written(ablation("kept", [0.5]), tmp_path, monkeypatch)
    assert "stale" not in (reports / "summary.md").read_text() + (reports / "runs.csv").read_text()


def test_a_ablation_named_like_a_missing_value_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pictures(monkeypatch)
    reports = written(ablation("null", [0.5]), tmp_path, monkeypatch)
    assert "`null`" in (reports / "summary.md").read_text()
    for table in ("symmetry.csv", "measurements/correlation.csv"):
        assert set(pd.read_csv(reports / table, keep_default_na=False)["ablation"]) == {"null"}


def test_what_is_missing_is_refused_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ablation("a", [0.5, 0.6])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"models/a/manifest.json: no such file; `python -m pipeline train a` makes it"):
        report.run(params(made))
    write(ablation("a", [0.5]), tmp_path)
    with pytest.raises(UserError, match=r"has the seeds \[111\], but params.yaml has \[111, 222\]"):
        report.run(params(made))
    write(made, tmp_path)
    evaluation = tmp_path / "reports" / "evaluation" / "a"
    of = files.open_verified(evaluation, made_by="").subject
    files.write_csv(evaluation / "evaluation.csv", runs(made).drop(columns="optimizer"))
    with pytest.raises(UserError, match=r"evaluation.csv: altered or truncated .* `python -m pipeline evaluate a`"):
        report.run(params(made))
    files.write_manifest(evaluation, subject=of)
    with pytest.raises(UserError, match="has no column 'optimizer'"):
        report.run(params(made))
    assert not (tmp_path / "reports" / "index.html").exists()


def test_words_cannot_become_markup() -> None:
    assert str(page.markdown_to_html("a < b, `x`, **y** <script>, [z](runs.csv)")) == (
        'a &lt; b, <code>x</code>, <strong>y</strong> &lt;script&gt;, <a href="runs.csv">z</a>'
    )


def square() -> Drawing:
    return Drawing(figsize=(1, 1))


def test_another_section_is_one_more_in_the_list() -> None:
    figure = Figure("exact_match", "what it shows", "", square)
    section = page.Section("Symmetry", ["Words."], tables=[Table(["Ablation", "n"], [["`a|b`", "3"]])])
    whole = page.Page("Title", ["About."], ["Found."], figure, [section])
    assert "## Symmetry\n\nWords.\n\n| Ablation | n |\n| --- | ---: |\n| `a\\|b` | 3 |" in page.markdown(whole)
    assert '<h2 id="symmetry">Symmetry</h2>' in page.html(whole, {"exact_match": png(square)})
