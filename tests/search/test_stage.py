"""The stage `search`: a study from its dataset to its page, and its best ablations back into the grid."""

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pandas as pd
import pytest
from ruamel.yaml import YAML

from pipeline.errors import UserError
from pipeline.params import read
from pipeline.search.study import VARIABLE, open_study, storage_url
from pipeline.stages import search
from tests.search.conftest import small_study


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small study that has ended."""
    folder = small_study(tmp_path_factory.mktemp("ended"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(VARIABLE, raising=False)
        patch.chdir(folder)
        search.run(read(), workers=1, engine="processes", gpus=None)
    return folder


@pytest.fixture
def searched(ended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(shutil.copytree(ended, tmp_path / "project"))
    return tmp_path / "project"


def answer(project: Path) -> dict[str, bytes]:
    folder = project / "reports" / "search"
    return {
        path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "study.db" not in path.name
    }


def test_confirmations_start_with_the_longest() -> None:
    study, begun = optuna.create_study(), datetime(2026, 11, 28)
    for number, seconds in enumerate((5, 90, 40)):
        trial = optuna.trial.create_trial(value=0.0)
        trial.number, trial.datetime_start = number, begun
        trial.datetime_complete = begun + timedelta(seconds=seconds)
        study.add_trial(trial)
    assert search.longest_first(study, [0, 1, 2]) == [1, 2, 0]
    assert search.longest_first(study, [2, 0]) == [2, 0]


def test_one_worker_gives_the_same_answer_byte_for_byte_and_a_second_call_only_tells_it(
    ended: Path, searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (searched / "reports" / "search" / "study.db").unlink()
    search.run(read(), workers=1, engine="processes", gpus=None)
    first = answer(searched)
    assert first == answer(ended)
    assert {"trials.csv", "ablations.yaml", "summary.md", "index.html"} <= set(first)
    said = capsys.readouterr()
    assert "not tracked" not in said.err
    assert ": 0 of 6 trials, in sqlite:///" in said.out
    assert "the first will say how long they take" in said.out
    search.run(read(), workers=1, engine="processes", gpus=None)
    assert answer(searched) == first
    assert "about 0 min of trials left" in capsys.readouterr().out


def test_the_answer_quotes_what_fresh_seeds_made_of_it(searched: Path) -> None:
    found = pd.read_csv(searched / "reports" / "search" / "confirmation.csv")
    assert 0 < len(found) <= read().search.trials
    assert set(found["members"]) == {len(read().search.confirm)}
    claims = json.loads((searched / "reports" / "search" / "claims.json").read_text())["claims"]
    again = [claim for claim in claims if claim["name"] == "again"]
    assert again
    for claim in again:
        row = found[found["trial"] == claim["source"]["where"]["trial"]].iloc[0]
        assert (claim["value"], claim["n"], claim["low"]) == (row["converged"], row["members"], row["converged_low"])
    with pytest.raises(UserError, match=r"--confirm: trial 0 is not to be confirmed \(those that are: none\)"):
        search.run_confirmation(read(), 0)


def test_other_fresh_seeds_confirm_anew_and_no_trial_is_run_again(searched: Path) -> None:
    before, path = answer(searched), searched / "params.yaml"
    said = path.read_text()
    path.write_text(said.replace("[333, 444]", "[555, 666, 777]"))
    search.run(read(), workers=1, engine="processes", gpus=None)
    after = answer(searched)
    assert after["trials.csv"] == before["trials.csv"]
    assert set(pd.read_csv(searched / "reports" / "search" / "confirmation.csv")["members"]) == {3}
    path.write_text(said)
    search.run(read(), workers=1, engine="processes", gpus=None)
    assert answer(searched) == before


def test_promoted_ablations_are_in_the_grid_and_nothing_else_changes(searched: Path) -> None:
    ready = YAML(typ="safe").load(searched / "reports" / "search" / "ablations.yaml")
    before = read()
    search.promote(before, 2)
    after = read()
    new = [name for name in after.ablations if name not in before.ablations]
    assert new == list(ready)[:2]
    assert all(after.ablations[name].model_dump(exclude_unset=True) == ready[name] for name in new)
    assert {name: after.ablations[name] for name in before.ablations} == before.ablations
    assert after.model_copy(update={"ablations": {}}) == before.model_copy(update={"ablations": {}})
    search.promote(after, 2)
    assert read() == after  # promoted already


def test_a_name_that_another_ablation_has_is_refused_and_nothing_written(searched: Path) -> None:
    best = next(iter(YAML(typ="safe").load(searched / "reports" / "search" / "ablations.yaml")))
    path = searched / "params.yaml"
    path.write_text(path.read_text().replace("ablations:", f"ablations:\n  {best}: {{task: reverse}}"))
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"ablations.{best}: is another ablation than the study's"):
        search.promote(read(), 3)
    assert path.read_bytes() == before


def test_without_a_study_there_is_nothing_to_promote(project: Path) -> None:
    with pytest.raises(UserError, match=r"holds no study of this params.yaml; `python -m pipeline search` makes it"):
        search.promote(read(), 1)
    assert not (project / "reports").exists()
    open_study(read(), storage_url(read().search, search.FOLDER.resolve()))
    with pytest.raises(UserError, match="no trial is complete; `python -m pipeline search` goes on"):
        search.promote(read(), 1)
