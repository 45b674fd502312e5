"""The stage `search`: a study from its dataset to its page, and its best ablations in `params.yaml`."""

from pathlib import Path

import optuna
import pandas as pd
import pytest
from ruamel.yaml import YAML

from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.reporting.estimates import read_estimates
from pipeline.search import table
from pipeline.search.study import STORAGE_VARIABLE, open_study, storage_url
from pipeline.stages import search
from pipeline.tasks.registry import read_params
from tests.search.conftest import run_alone


def current_study() -> optuna.Study:
    params = read_params()
    return open_study(params, storage_url(params.search, search.SEARCH_FOLDER.resolve()))


def answer(project: Path) -> dict[str, bytes]:
    """The files in `reports/search/` except the storage."""
    files = [path for path in (project / "reports" / "search").rglob("*") if path.is_file()]
    return {path.name: path.read_bytes() for path in files if "study.db" not in path.name}


def test_one_worker_of_a_fixed_seed_gives_the_same_answer_byte_for_byte(
    finished_once: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_alone()
    assert answer(project) == answer(finished_once)
    assert {"trials.csv", "ablations.yaml", "summary.md", "index.html", "residual_map.webp"} <= set(answer(project))
    output = capsys.readouterr()
    assert "not tracked" not in output.err
    assert "0 of 6 trials" in output.out


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


def test_the_answer_quotes_the_runs_with_fresh_seeds(finished: Path) -> None:
    confirmation = pd.read_csv(finished / "reports" / "search" / "confirmation.csv")
    assert 0 < len(confirmation) <= read_params().search.trials
    assert set(confirmation["runs"]) == {len(read_params().search.confirm)}
    estimates = read_estimates(finished / "reports" / "search" / "estimates.csv")
    for row in confirmation.to_dict("records"):
        fresh = estimates.find("fresh_converged", ablation=f"trial-{row['trial']}")
        assert fresh is not None
        assert (round(fresh.value * row["runs"]), fresh.row["n"]) == (row["converged"], row["runs"])
        assert fresh.row["low"] == pytest.approx(row["converged_low"])
    with pytest.raises(UserError, match="--confirm: trial 0 "):
        search.run_confirmation(read_params(), 0)


def test_other_fresh_seeds_confirm_again_and_no_trial_is_run_again(finished: Path) -> None:
    before, params = answer(finished), finished / "params.yaml"
    params.write_text(params.read_text().replace("[333, 444]", "[555, 666, 777]"))
    run_alone()
    assert answer(finished)["trials.csv"] == before["trials.csv"]
    assert set(pd.read_csv(finished / "reports" / "search" / "confirmation.csv")["runs"]) == {3}


def test_importances_name_what_is_searched_in_an_order_without_ties(finished: Path) -> None:
    """Optuna's order of equal importances depends on the hash seed of the process."""
    importances = table.compute_importances(current_study())
    assert "layers" in importances
    order = [(*(-value for value in values.values()), name) for name, values in importances.items()]
    assert order == sorted(order)
    assert all(value == round(value, 9) for values in importances.values() for value in values.values())


def test_promoted_ablations_are_added_and_nothing_else_changes(finished: Path) -> None:
    entries = YAML(typ="safe").load(finished / "reports" / "search" / "ablations.yaml")
    before = read_params()
    search.promote_best_trials(before, 2)
    after = read_params()
    new = [name for name in after.ablations if name not in before.ablations]
    assert new == list(entries)[:2]
    assert all(after.ablations[name].model_dump(exclude_unset=True) == entries[name] for name in new)
    assert {name: after.ablations[name] for name in before.ablations} == before.ablations
    assert after.model_copy(update={"ablations": {}}) == before.model_copy(update={"ablations": {}})
    search.promote_best_trials(after, 2)
    assert read_params() == after


def test_the_name_of_another_ablation_is_refused_and_nothing_written(finished: Path) -> None:
    best = next(iter(YAML(typ="safe").load(finished / "reports" / "search" / "ablations.yaml")))
    path = finished / "params.yaml"
    path.write_text(path.read_text().replace("ablations:", f"ablations:\n  {best}: {{task: reverse}}"))
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"ablations.{best}: "):
        search.promote_best_trials(read_params(), 3)
    assert path.read_bytes() == before


def test_without_a_complete_trial_nothing_is_promoted(project: Path) -> None:
    with pytest.raises(UserError, match="python -m pipeline search"):
        search.promote_best_trials(read_params(), 1)
    assert not (project / "reports").exists()
    current_study()
    with pytest.raises(UserError, match="no trial of this search is complete"):
        search.promote_best_trials(read_params(), 1)
