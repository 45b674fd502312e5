"""A search on a real SLURM cluster of two nodes."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.params import read
from pipeline.stages import search
from tests.faults.clusters import slurm, slurm_configuration
from tests.repro.conftest import changed

pytestmark = pytest.mark.faults

__all__ = ["slurm", "slurm_configuration"]  # fixtures


@pytest.mark.timeout(600)
def test_workers_on_two_nodes_complete_a_study(project: Path, slurm: None) -> None:
    changed(project, "search", trials=3)  # each that is confirmed starts a Python
    search.run(read(), workers=3, engine="slurm", gpus=0.0)
    found = pd.read_csv(project / "reports" / "search" / "trials.csv")
    assert list(found["state"]) == ["complete"] * read().search.trials == ["complete"] * 3
    assert list((project / ".slurm").iterdir()) == []
