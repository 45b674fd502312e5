"""A place to run commands, whatever the engine."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import slurm_cluster


@pytest.fixture(scope="module")
def nodes() -> Iterator[str]:
    """A real Ray cluster of two nodes of two cores, one with a GPU (that nothing computes on); its address."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1})
        made.add_node(num_cpus=2)
        yield made.address
        made.shutdown()


@pytest.fixture
def cluster(nodes: str) -> Iterator[None]:
    """The cluster as this process sees it."""
    import ray

    ray.init(address=nodes, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A real SLURM cluster of two nodes of two cores; its configuration."""
    if reason := slurm_cluster.lacks():
        pytest.skip(reason)
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as path:
        yield path


@pytest.fixture
def slurm(controller: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster as this process sees it, without waiting long for news, and a folder for its engine's files."""
    monkeypatch.setenv("SLURM_CONF", str(controller))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
    monkeypatch.chdir(tmp_path)
    for name, seconds in {"ASK": 1.0, "LOOK": 0.2}.items():
        monkeypatch.setattr(f"pipeline.engines.slurm.{name}", seconds)
