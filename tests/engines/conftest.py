"""A place to run commands, whatever the engine."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A real Ray cluster of two nodes of two cores, one with a GPU (that nothing computes on), in this process."""
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1})
        made.add_node(num_cpus=2)
        ray.init(address=made.address, logging_level="ERROR")
        yield
        ray.shutdown()
        made.shutdown()
