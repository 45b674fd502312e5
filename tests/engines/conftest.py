"""Fixtures of the clusters, and a fork server for each module of tests."""

from collections.abc import Iterator
from multiprocessing.forkserver import _forkserver

import pytest

from pipeline.engines import processes
from tests.faults.clusters import ray_address, ray_cluster, slurm, slurm_configuration

__all__ = ["ray_address", "ray_cluster", "slurm", "slurm_configuration"]


@pytest.fixture(autouse=True, scope="module")
def fork_server() -> Iterator[None]:
    """A fork server that starts with the module's first command and imports torch alone."""
    _forkserver._stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "SLOW_IMPORTS", ["torch"])
        yield
    _forkserver._stop()
