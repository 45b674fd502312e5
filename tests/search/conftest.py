"""A cheap study in SQLite, and a finished one."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from sqlalchemy.engine import URL, make_url

from pipeline import dataset
from pipeline.dataset import Dataset
from pipeline.params import PARAMS_FILE, Params, Search, parse
from pipeline.search.study import STORAGE_VARIABLE
from pipeline.stages import search
from pipeline.tasks.registry import read_params
from tests.conftest import PRESETS
from tests.faults.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]  # fixtures
os.environ.pop(STORAGE_VARIABLE, None)  # of who runs the tests


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.faults)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """Address of an empty database of each kind."""
    if request.param == "postgresql":
        url: URL = request.getfixturevalue("postgres_url")
        return url
    return make_url(f"sqlite:///{tmp_path / 'study.db'}")


@pytest.fixture(scope="session")
def cheap(smoke: Params) -> Params:
    """Six trials of two layers, of two steps each, sampled in two generations; one layer is tried in full."""
    training = smoke.training.model_copy(update={"warmup_steps": 1, "batch_size": 8})
    sampled = {"trials": 6, "generation": 4, "enumerate_up_to": 4}
    search = smoke.search.model_copy(update={"steps": 2, "heartbeat": 1, **sampled})
    return smoke.model_copy(update={"training": training, "search": search})


@pytest.fixture(scope="session")
def data(smoke: Params, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder, task = tmp_path_factory.mktemp("data"), smoke.task(smoke.search.task)
    dataset.write(folder, task)
    return dataset.read(folder, task)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small study in `params.yaml`, and its dataset, as the current folder."""
    monkeypatch.chdir(tmp_path)
    return write_small_study(tmp_path)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small study that has ended; not to be changed."""
    folder = write_small_study(tmp_path_factory.mktemp("finished"))
    with contextlib.chdir(folder):
        run_alone()
    return folder


def run_alone(workers: int = 1) -> None:
    """Run the search of the current folder."""
    search.run_search(read_params(), worker_count=workers, engine="processes", gpus_per_worker=1.0)


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, as the current folder."""
    monkeypatch.chdir(shutil.copytree(finished_once, tmp_path / "project"))
    return tmp_path / "project"


def write_small_study(folder: Path, **settings: object) -> Path:
    """Write `params.yaml`, with these settings of the search, and the dataset; return the folder."""
    yaml = YAML()
    content = yaml.load(PRESETS / "smoke.yaml")
    content["training"] |= {"warmup_steps": 1, "batch_size": 8}
    content["search"] |= {"trials": 4, "generation": 2, "steps": 4, "enumerate_up_to": 4} | settings
    yaml.dump(content, folder / PARAMS_FILE)
    dataset.write(folder / "data" / "addition", read_params(folder / PARAMS_FILE).task("addition"))
    return folder


def changed(params: Params, *, space: dict[str, object] | None = None, **settings: object) -> Params:
    """`params` with other settings of the search, and other fields in its space."""
    content = params.search.model_dump() | settings
    content["space"] = content["space"] | (space or {})
    return params.model_copy(update={"search": parse(Search, content, "params.yaml: search")})
