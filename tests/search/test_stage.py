"""The stage `search`: a study from its dataset to its page."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.params import Params
from pipeline.reporting.estimates import read_estimates
from pipeline.search.study import STORAGE_VARIABLE, open_study, storage_url
from pipeline.stages import search
from pipeline.tasks.registry import read_params
from tests.search.conftest import run_alone


def answer(project: Path) -> dict[str, bytes]:
    """The files in `reports/search/` except the storage."""
    files = [path for path in (project / "reports" / "search").rglob("*") if path.is_file()]
    return {path.name: path.read_bytes() for path in files if "study.db" not in path.name}


def test_two_processes_give_the_answer_of_one_byte_for_byte(
    finished_once: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_alone(workers=2)
    assert answer(project) == answer(finished_once)
    assert {"trials.csv", "runs.csv", "summary.md", "index.html", "residual_map.webp"} <= set(answer(project))
    assert "not tracked" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a%20b", "100%", "a b#ü?"])
def test_the_database_is_in_the_projects_folder_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap: Params, name: str
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    url = storage_url(cheap.search, search.SEARCH_FOLDER.resolve())
    open_study(cheap, url)
    assert Path("reports/search/study.db").stat().st_size
    monkeypatch.setenv(STORAGE_VARIABLE, url.render_as_string(hide_password=False))  # as for workers
    assert storage_url(cheap.search, Path()) == url
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_blind_is_known_from_the_proof_and_the_page_says_so(finished: Path) -> None:
    trials = pd.read_csv(finished / "reports" / "search" / "trials.csv")
    runs = pd.read_csv(finished / "reports" / "search" / "runs.csv")
    assert set(trials.loc[trials["layers"] == 1, "state"]) == {"proved"}
    assert set(runs["trial"]) == set(trials.loc[trials["layers"] == 2, "trial"])
    assert set(runs["seed"]) <= set(read_params().search.seeds)
    page = (finished / "reports" / "search" / "summary.md").read_text()
    assert page.count("| proved |") == 1 + 4  # of one layer: the answer, and its four patterns


def test_a_search_that_goes_on_keeps_its_trials(finished: Path) -> None:
    before, params = pd.read_csv(finished / "reports" / "search" / "trials.csv"), finished / "params.yaml"
    params.write_text(params.read_text().replace("trials: 4", "trials: 6"))
    run_alone()
    after = pd.read_csv(finished / "reports" / "search" / "trials.csv")
    pd.testing.assert_frame_equal(after.head(len(before)), before)
    assert len(after) == len(before) + 2
    estimates = read_estimates(finished / "reports" / "search" / "estimates.csv")
    fewest = estimates.find("fewest_connections", ablation="2-layers-none")
    assert fewest is not None
    assert fewest.row["n"] == 6
