"""What is committed can be made again: learning curves by training, pages from tables, documents from templates."""

import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from pipeline import api
from pipeline.environment import CPU_INFO_FILE
from pipeline.stages import documents, report
from pipeline.tasks.registry import read_params
from tests.projects import PROJECT, run

ABLATION, STEPS = "nope-causal-1-layer", 50
TRAIN = f"""
from pipeline.environment import disable_avx512
disable_avx512()
import sys
from pathlib import Path
import pandas as pd
from pipeline import dataset, files
from pipeline.tasks.registry import read_params
from pipeline.training.fit import fit
folder = Path(sys.argv[1])
ablation = read_params().ablation("{ABLATION}")
shorter = ablation.model_copy(update={{"training": ablation.training.model_copy(update={{"steps": {STEPS}}})}})
dataset.write(folder / "data", ablation.task)
files.write_csv(folder / "history.csv", fit(shorter, dataset.read(folder / "data", ablation.task)).history)
"""


def test_the_committed_learning_curve_is_reproduced_on_any_processor_it_was_made_on(tmp_path: Path) -> None:
    if not CPU_INFO_FILE.exists() or not {"AuthenticAMD", "avx2"} <= set(CPU_INFO_FILE.read_text().split()):
        pytest.skip("the committed results are from AMD processors with AVX2")
    run(PROJECT, sys.executable, "-c", TRAIN, str(tmp_path))
    retrained = pd.read_csv(tmp_path / "history.csv")
    committed = pd.read_csv(PROJECT / "reports" / "learning_curves.csv")
    committed = committed[(committed["ablation"] == ABLATION) & (committed["step"] <= STEPS)]
    assert len(committed)
    pd.testing.assert_frame_equal(retrained, committed[retrained.columns].reset_index(drop=True), check_exact=True)


def expand_seeds(text: str) -> set[int]:
    """Seeds of a cell of the table in LOG.md: `11 to 14`, or `111, 222`."""
    first, _, last = text.partition(" to ")
    return set(range(int(first), int(last) + 1)) if last else set(map(int, text.split(",")))


def test_no_seed_has_two_uses() -> None:
    """Settings are tuned on other seeds than those that are reported."""
    section = (PROJECT / "reports" / "LOG.md").read_text().partition("\n## Seeds\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([\d, to]+) \| (.+) \|$", section, re.MULTILINE)
    seeds = {use: expand_seeds(text) for text, use in rows}
    assert sum(map(len, seeds.values())) == len(set().union(*seeds.values()))
    for folder in (PROJECT, *PROJECT.glob("studies/*/")):
        params = read_params(folder / "params.yaml")
        use = str(folder.relative_to(PROJECT)) if folder != PROJECT else "the default experiment"
        trained = {seed for ablation in params.all_ablations() for seed in ablation.training.seeds}
        assert trained == seeds[use]
    assert set(read_params(PROJECT / "params.yaml").search.seeds) == seeds["the raced search"]


EXPERIMENTS = [PROJECT, *sorted(path.parents[1] for path in PROJECT.glob("studies/*/reports/runs.csv"))]


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda path: path.name)
def test_pages_and_estimates_are_those_of_the_committed_tables(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left out of the committed answers, and every figure of the pages is there."""
    committed = experiment / "reports"
    (tmp_path / "reports").mkdir()
    for name in ("runs.csv", "learning_curves.csv", "symmetry.csv", "measurements.csv.bz2"):
        shutil.copy(committed / name, tmp_path / "reports")
    shutil.copy(experiment / "answers.md.j2", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "pipeline.reporting.report.draw_image", lambda draw: b""
    )  # another version of matplotlib draws other bytes
    report.run(read_params(experiment / "params.yaml"))
    for name in ("estimates.csv", "ablations.csv", "metrics.json", "summary.md", "details.md"):
        assert (tmp_path / "reports" / name).read_text() == (committed / name).read_text(), name
    pages = (committed / "summary.md").read_text() + (committed / "details.md").read_text()
    assert "Left out above" not in pages
    figures = set(re.findall(r"\((figures/[^)]+)\)", pages))
    assert figures == {str(path.relative_to(committed)) for path in (committed / "figures").iterdir()}
    assert len((committed / "summary.md").read_text().splitlines()) <= 120
    assert (committed / "index.html").stat().st_size <= 1_000_000


def test_documents_are_those_of_their_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    rendered = dict(documents.render_documents())
    assert Path("README.md") in rendered
    for path, text in rendered.items():
        assert path.read_text() == text, f"{path}: run `python -m pipeline documents`"


def test_the_predictions_that_the_readme_shows_are_those_of_the_models() -> None:
    shown = re.findall(
        r"(?m)^    (nope-\S+)  (\S+=) -> (\S+)  \(probability ([\d.]+)\)", (PROJECT / "README.md").read_text()
    )
    assert len(shown) == 4
    for name, prompt, text, probability in shown:
        (answer,) = api.load(api.SHIPPED_MODELS_FOLDER / name).predict([prompt])
        assert answer.text == text
        assert f"{answer.probability:.2g}" == probability


@pytest.mark.parametrize(
    "page", [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("studies/*/*.md")], ids=str
)
def test_files_and_tests_that_a_document_names_exist(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        assert link.startswith(("https://", "mailto:")) or (page.parent / link).exists(), link
    for file in re.findall(r"\btests/[\w/]+\.py", text):
        assert (PROJECT / file).exists(), file
    tests = "".join(path.read_text() for path in PROJECT.glob("tests/**/*.py"))
    for name in re.findall(r"`(test(?:_\w+?){6,})`", text):
        assert f"def {name}(" in tests, name


def test_the_measurement_that_contributing_shows_is_the_one_in_the_code() -> None:
    (shown,) = re.findall(r"(?m)^    @measurement.*\n(?:    .*\n)+", (PROJECT / "CONTRIBUTING.md").read_text())
    code = (PROJECT / "pipeline" / "measurement" / "effective_rank.py").read_text()
    lines = [line.strip().removesuffix('..."""').strip() for line in shown.splitlines()]
    assert len(lines) == 5
    for line in lines:
        assert line in code, line
