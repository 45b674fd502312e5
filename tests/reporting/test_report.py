"""The report as a reader gets it: from the tables alone, self-contained, the same bytes each time."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline import files, switches
from pipeline.errors import RunError, UserError
from pipeline.measurement.catalogue import measurements
from pipeline.measurement.registry import Measurement
from pipeline.params import Params
from pipeline.reporting import page, pictures, tables
from pipeline.reporting.estimates import STATISTICS, Estimates
from pipeline.reporting.report import build_estimates, build_report
from pipeline.reporting.results import Results, tidy
from pipeline.stages import collect, report
from tests.reporting.experiment import SCORES, TRAINED, estimates_of, find, results_of, trained

TABLES = ("runs.csv", "learning_curves.csv", "symmetry.csv", "measurements.csv.bz2")


@pytest.fixture
def copied(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The params of a copy of the tiny experiment, which the test may change; it is the current folder."""
    for folder in ("models", "reports/evaluation", "reports/analysis"):
        shutil.copytree(project / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    return trained()


def test_the_report_needs_the_tables_alone_and_gives_the_same_bytes(
    reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reports").mkdir()
    for name in TABLES:
        shutil.copy(reports / name, tmp_path / "reports")
    monkeypatch.chdir(tmp_path)
    report.run(trained())
    folders = ("evaluation", "analysis")
    expected = [
        path for path in reports.rglob("*") if path.is_file() and path.relative_to(reports).parts[0] not in folders
    ]
    for path in expected:
        assert (Path("reports") / path.relative_to(reports)).read_bytes() == path.read_bytes(), path
    assert len(list(Path("reports").rglob("*.*"))) == len(expected)


def test_collecting_again_gives_the_same_bytes_and_other_folders_are_ignored(reports: Path, copied: Params) -> None:
    (Path("models") / "deleted").mkdir()
    collect.run(copied)
    for name in TABLES:
        assert (Path("reports") / name).read_bytes() == (reports / name).read_bytes(), name


def test_the_page_is_self_contained_and_its_links_exist(reports: Path) -> None:
    html = (reports / "index.html").read_text()
    anchors = set(re.findall(r'id="([^"]+)"', html))

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "link", "iframe", "object")
            for key, value in attributes:
                assert key != "srcset"
                if key == "src":
                    assert (value or "").startswith("data:image/webp;base64,")
                if key == "href" and (value or "").startswith("#"):
                    assert (value or "")[1:] in anchors

    Links().feed(html)
    assert "url(" not in html
    assert "@import" not in html
    assert len(html) < 1_000_000
    for path in (reports / "summary.md", reports / "details.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert link.startswith("https://") or (path.parent / link).exists(), link
    assert len((reports / "summary.md").read_text().splitlines()) <= 120


def test_pictures_are_readable_and_not_blank(reports: Path) -> None:
    pictures = list((reports / "figures").iterdir())
    assert pictures
    for path in pictures:
        with Image.open(path) as image:
            assert image.format == "WEBP"
            assert 900 <= image.width <= 1600
            assert 150 <= image.height <= 4000
            assert np.asarray(image.convert("L")).std() > 2, path.name


def test_every_run_and_ablation_has_its_row(reports: Path, results: Results) -> None:
    """Also one whose name pandas would read as a missing value."""
    for table in ("runs.csv", "symmetry.csv", "ablations.csv"):
        assert set(pd.read_csv(reports / table, keep_default_na=False)["ablation"]) == set(TRAINED)
    assert len(results.runs) == 2 * len(TRAINED)
    assert set(results.measured["ablation"]) == set(TRAINED)
    metrics = json.loads((reports / "metrics.json").read_text())
    assert set(metrics["converged"]) == set(TRAINED)
    table = pd.read_csv(reports / "ablations.csv", keep_default_na=False)
    assert {"runs", "converged", "converged_low", "converged_high", "test_exact_match_mean", "test_exact_match_median",
            "test_exact_match_min", "test_exact_match_max", "order_blind_ceiling"} <= set(table)  # fmt: skip


def test_every_measurement_and_every_switch_has_its_section(results: Results, estimates: Estimates) -> None:
    titles = set(re.findall("(?m)^### (.*)", build_report(results, estimates, measurements(), "", []).details))
    assert {measurement.title for measurement in measurements().values()} <= titles
    template, _, _ = page.TEMPLATES.loader.get_source(page.TEMPLATES, "details.md.j2")  # type: ignore[union-attr]
    assert set(re.findall(r'if name == "(\w+)"', template)) <= set(measurements())
    assert set(re.findall(r'if switch == "(\w+)"', template)) <= {switch.field for switch in switches.SWITCHES}


def test_what_shows_nothing_is_left_out() -> None:
    """Without measurements the chapter about them, and of the others the sections that have only text."""
    data = results_of({"nope-causal": [1.0, 0.5], "learned-causal": [1.0, 1.0]})
    details = build_report(data, Estimates(build_estimates(data)), {}, "", []).details
    chapters = re.split("(?m)^(?=##)", details)[1:]
    assert "Where the order comes from" not in details
    assert "How many layers are needed?" not in details
    assert "What does positional encoding change?" in details
    for chapter, following in zip(chapters, [*chapters[1:], "## "], strict=True):
        assert re.search(r"(?m)^(\||!\[)", chapter) or following.startswith("### ")


def test_each_experiment_can_have_its_own_title() -> None:
    results, estimates = results_of(SCORES), estimates_of(SCORES)
    titled = build_report(results, estimates, {}, "# The price of wheat\n\nIt rises.\n", [])
    assert titled.title == "The price of wheat"
    assert titled.summary.startswith("# The price of wheat\n\nIt rises.\n")
    untitled = build_report(results, estimates, {}, "It rises.\n", [])
    assert untitled.summary.startswith(f"# {untitled.title}\n\nIt rises.\n")


def test_a_measurement_without_a_section_of_its_own_is_shown() -> None:
    """By depth if it has depths, its first value at its first keys otherwise."""
    rows = pd.DataFrame(
        {"ablation": "nope-causal", "seed": seed, "trained": trained, "depth": depth, "side": side,
         "x": 0.25 + depth}
        for seed in (1, 2) for trained in (0, 1) for depth in (0, 1) for side in ("left", "right")
    )  # fmt: skip
    data = results_of({"nope-causal": [1.0, 1.0]}, tidy("new", rows, ["x"]))
    new = Measurement(lambda inputs: rows, "What is new?", {"x": "new value"}, None)
    new.function.__name__ = "new"
    details = build_report(data, Estimates(build_estimates(data)), {"new": new}, "", []).details
    (shown,) = re.findall(r"### What is new\?\n([^#]+)", details)
    assert "1.25" in shown


def copy_reports(reports: Path, folder: Path) -> None:
    """Copy the whole report of the tiny experiment to `folder`, without what `collect` reads."""
    shutil.copytree(reports, folder / "reports", ignore=shutil.ignore_patterns("evaluation", "analysis"))


def test_a_section_that_fails_costs_that_section_alone(
    reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table, a figure when it is drawn, and a statistic fail; all else is as before."""
    copy_reports(reports, tmp_path)
    monkeypatch.chdir(tmp_path)

    def fail(*arguments: object, **options: object) -> pd.DataFrame:
        raise TypeError("int64 is\nno `key`")

    def draw_tokens(view: object) -> page.Picture:
        return page.Picture("tokens", "Tokens", "", fail)  # type: ignore[arg-type]

    fail.__name__ = "broken_statistic"
    monkeypatch.setattr(pictures, "draw_token_maps", draw_tokens)
    monkeypatch.setattr(tables.TaskView, "verdict_table", fail)
    monkeypatch.setattr("pipeline.reporting.report.STATISTICS", [*STATISTICS, fail])
    with pytest.raises(RunError, match=r"broken_statistic.*read.*What is decided") as error:
        report.run(trained())
    assert str(error.value).count("TypeError: int64 is") == 3
    summary, details = (Path("reports", name).read_text() for name in ("summary.md", "details.md"))
    assert "> **Not in this report, because it failed:** `statistic broken_statistic: TypeError" in summary
    assert re.search(r"## What is decided\n\n> \*\*This section failed:\*\* `TypeError: int64 is`\n", summary)
    assert details.count("This section failed") == 1
    headings = re.findall("(?m)^#.*", (reports / "details.md").read_text())
    assert re.findall("(?m)^#.*", details) == headings
    assert "<blockquote>" in Path("reports/index.html").read_text()
    assert Path("reports/estimates.csv").read_bytes() == (reports / "estimates.csv").read_bytes()


@pytest.mark.parametrize("broken", ["page.render_html", "files.write_text", "collect_metrics"])
def test_a_report_that_cannot_be_built_leaves_the_last_one_unchanged(
    reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    copy_reports(reports, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(f"pipeline.stages.report.{broken}", fail)
    with pytest.raises(ZeroDivisionError):
        report.run(trained())
    for path in reports.rglob("*"):
        if path.is_file() and (copy := tmp_path / "reports" / path.relative_to(reports)).parent.exists():
            assert copy.read_bytes() == path.read_bytes(), path
    assert not list(Path("reports").glob(".*"))


def test_dvc_keeps_the_last_report_while_the_new_one_is_built() -> None:
    declared = YAML(typ="safe").load(Path(report.__file__).parents[2] / "dvc.yaml")["stages"]["report"]
    assert all(options["persist"] for out in declared["outs"] + declared["metrics"] for options in out.values())


def test_an_impossible_result_is_an_alarm_at_the_top_of_both_pages() -> None:
    data = results_of({"nope-full": [0.5, 0.5], "nope-causal": [1.0, 1.0]})
    content = build_report(data, Estimates(build_estimates(data)), {}, "Answer.", [])
    assert content.summary.index("BUG IN THE INSTRUMENT") < content.summary.index("Answer.")
    assert "<blockquote>" in page.render_html("Title", content.summary, {})


@pytest.mark.parametrize("most", [1, 50])
def test_results_are_shown_once_however_many_ablations_there_are(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(tables, "MAX_ABLATIONS_IN_SUMMARY", most)
    content = build_report(results_of(SCORES), estimates_of(SCORES), {}, "", [])
    both = content.summary + content.details
    assert both.count("(figures/steps.webp)") == 1
    assert len(re.findall(r"(?m)^\| Ablation .*Converged", both)) == 1
    assert ("(details.md#table-of-results-by-ablation)" in content.summary) == (most == 1)


@pytest.mark.parametrize("most", [1, 50])
def test_more_tasks_than_a_page_holds_are_compared_with_each_other(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr("pipeline.reporting.tables.MAX_ABLATIONS_IN_SUMMARY", most)
    scores = {"nope-causal": [1.0, 1.0], "nope-full": [0.01, 0.02]}
    one = results_of(scores)
    names = ["addition", "second", "third", "fourth"]
    copies = [
        ablation.model_copy(update={"dataset": task, "name": f"{task}-{ablation.name}"})
        for task in names
        for ablation in one.ablations
    ]
    tables = (
        pd.concat(
            [table.assign(ablation=f"{task}-" + table["ablation"], task=task) for task in names], ignore_index=True
        )
        for table in (one.runs, one.curves, one.measured)
    )
    data = Results(copies, [], *tables)
    content = build_report(data, Estimates(build_estimates(data)), measurements(), "", [])
    assert "figures/tasks.webp" in content.images
    for task in names:
        assert f"`{task}`" in content.summary
        assert f"({task})" in content.details
        assert content.details.count(f"(figures/{task}-steps.webp)") == 1


def refusal(params: Params, stage: object) -> str:
    with pytest.raises(UserError) as error:
        stage.run(params)  # type: ignore[attr-defined]
    return str(error.value)


def test_missing_or_altered_results_are_refused_with_the_command_that_makes_them(copied: Params) -> None:
    more_seeds = copied.model_copy(update={"training": copied.training.model_copy(update={"seeds": [1, 2, 3]})})
    other = refusal(more_seeds, collect)
    assert "[1, 2]" in other
    assert "[1, 2, 3]" in other
    evaluation = Path("reports/evaluation/null")
    table = pd.read_csv(evaluation / "evaluation.csv", keep_default_na=False)
    digest = files.open_verified_folder(evaluation, creating_command="").subject
    collect.run(copied)
    assert "[1, 2, 3]" in refusal(more_seeds, report)
    files.write_csv(evaluation / "evaluation.csv", table.drop(columns="optimizer"))
    assert "`python -m pipeline evaluate null`" in refusal(copied, collect)
    files.write_manifest(evaluation, subject=digest)
    assert "'optimizer'" in refusal(copied, collect)
    shutil.rmtree("models/null")
    assert "`python -m pipeline train null`" in refusal(copied, collect)
    Path("reports/measurements.csv.bz2").write_bytes(b"")
    assert "measurements.csv.bz2" in refusal(copied, report)


def test_words_cannot_become_markup() -> None:
    html = page.render_html("a < b", "<script> `x` **y** [z](runs.csv)\n\n| a |\n| --- |\n| <b> |", {})
    assert "<script>" not in html
    assert "<b>" not in html
    assert "a &lt; b</title>" in html


def test_an_estimate_is_shown_with_its_interval() -> None:
    steps = find(estimates_of(SCORES), "restricted_steps", "nope-causal", versus="")
    assert re.fullmatch(r"[\d,]+ \([\d,]+ to [\d,]+\)", str(steps))
