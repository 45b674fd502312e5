"""Fixtures: real clusters on this machine, one for each engine that needs one."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import slurm_cluster

PROJECT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """Address of a Ray cluster of two nodes with two cores, one with a GPU (that nothing computes on)."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.setenv("PYTHONPATH", str(PROJECT))
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1})
        cluster.add_node(num_cpus=2)
        yield cluster.address
        cluster.shutdown()


@pytest.fixture
def ray_cluster(ray_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Ray cluster, as the engine finds it."""
    monkeypatch.setenv("RAY_ADDRESS", ray_address)


@pytest.fixture(scope="session")
def slurm_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Configuration file of a SLURM cluster of two nodes with two cores."""
    if reason := slurm_cluster.missing():
        pytest.skip(reason)
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as path:
        yield path


@pytest.fixture
def slurm(slurm_configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SLURM cluster, as the engine finds it, which looks for news more often here; and a folder for its files."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_configuration))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.chdir(tmp_path)
    for name, seconds in {"SQUEUE_INTERVAL_SECONDS": 1.0, "POLL_INTERVAL_SECONDS": 0.2}.items():
        monkeypatch.setattr(f"pipeline.engines.slurm.{name}", seconds)


CLUSTERS = {"ray": "ray_cluster", "slurm": "slurm"}
"""Engine -> the fixture of its cluster."""
