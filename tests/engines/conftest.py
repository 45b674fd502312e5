"""Fixtures: clusters for the engines `ray` and `slurm`, and a new fork server for each test file."""

from collections.abc import Iterator
from multiprocessing.forkserver import _forkserver

import pytest

from pipeline.engines import processes
from tests.faults.clusters import ray_address, ray_cluster, slurm, slurm_configuration

__all__ = ["ray_address", "ray_cluster", "slurm", "slurm_configuration"]


@pytest.fixture(autouse=True, scope="module")
def fork_server() -> Iterator[None]:
    """Replace the fork server by a new one for each test file, which imports torch only."""
    _forkserver._stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "PRELOADED_MODULES", ["torch"])
        yield
    _forkserver._stop()
