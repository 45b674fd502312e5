"""A store of each back end, empty."""

from pathlib import Path

import pytest

from pipeline.params import Tracking

URIS = ("sqlite:///{folder}/mlflow.db", "jsonl:{folder}/runs.jsonl")
"""One per back end."""


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MLflow database with nothing in it; to make one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("fresh") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


def empty(uri: str, folder: Path, fresh: bytes) -> Tracking:
    (folder / "mlflow.db").write_bytes(fresh)
    return Tracking(uri=uri.format(folder=folder), experiment="breaking-symmetry")


@pytest.fixture
def mlflow_store(tmp_path: Path, fresh: bytes) -> Tracking:
    return empty(URIS[0], tmp_path, fresh)


@pytest.fixture(params=URIS, ids=[uri.partition(":")[0] for uri in URIS])
def store(request: pytest.FixtureRequest, tmp_path: Path, fresh: bytes) -> Tracking:
    """Of every back end in turn."""
    return empty(request.param, tmp_path, fresh)
