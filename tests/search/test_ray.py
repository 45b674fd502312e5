"""A search on a real Ray cluster of two nodes."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.params import read
from pipeline.stages import search
from tests.faults.clusters import ray_address, ray_cluster
from tests.repro.conftest import changed

pytestmark = pytest.mark.faults

__all__ = ["ray_address", "ray_cluster"]  # fixtures


@pytest.mark.timeout(600)
def test_workers_on_two_nodes_complete_a_study(project: Path, ray_cluster: None) -> None:
    changed(project, "search", confirm=[])  # on SLURM it is confirmed, too
    search.run(read(), workers=2, engine="ray", gpus=None)
    found = pd.read_csv(project / "reports" / "search" / "trials.csv")
    assert list(found["state"]) == ["complete"] * read().search.trials
