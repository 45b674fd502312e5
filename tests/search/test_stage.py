"""The stage `search`: a study from its dataset to its page, and its best cells back into the grid."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.params import read
from pipeline.refusal import Refused
from pipeline.stages import search
from pipeline.tasks import dataset
from tests.conftest import PRESETS


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small study in `params.yaml` and its dataset."""
    yaml = YAML()
    content = yaml.load(PRESETS / "smoke.yaml")
    content["training"] |= {"warmup_steps": 1, "batch_size": 8}
    content["search"] |= {"trials": 6, "steps": 4, "enumerate_up_to": 0}
    yaml.dump(content, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEARCH_STORAGE", raising=False)
    dataset.write(tmp_path / "data" / "addition", read().task)
    return tmp_path


def answer(project: Path) -> dict[str, bytes]:
    folder = project / "reports" / "search"
    return {
        path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "study.db" not in path.name
    }


def test_one_worker_gives_the_same_answer_byte_for_byte_and_a_second_call_only_tells_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search.run(read(), workers=1, ray=False, gpus=0.0)
    first = answer(project)
    assert "not tracked" not in capsys.readouterr().err
    assert {"trials.csv", "ablations.yaml", "summary.md", "index.html"} <= set(first)
    search.run(read(), workers=1, ray=False, gpus=0.0)
    assert answer(project) == first
    (project / "reports" / "search" / "study.db").unlink()
    search.run(read(), workers=1, ray=False, gpus=0.0)
    assert answer(project) == first


def test_promoted_cells_are_in_the_grid_and_nothing_else_changes(project: Path) -> None:
    search.run(read(), workers=1, ray=False, gpus=0.0)
    before = read()
    search.promote(before, 2)
    after = read()
    new = set(after.ablations) - set(before.ablations)
    assert len(new) == 2
    assert {name: after.ablations[name] for name in before.ablations} == before.ablations
    assert after.model_copy(update={"ablations": {}}) == before.model_copy(update={"ablations": {}})
    search.promote(after, 2)
    assert read() == after  # promoted already


def test_without_a_study_there_is_nothing_to_promote(project: Path) -> None:
    with pytest.raises(Refused, match=r"trials\.csv: no such file; `python -m pipeline search` makes it"):
        search.promote(read(), 1)
