"""A grid that is killed over and over ends with the bytes of one that was left alone. Real processes, kill -9."""

import os
import random
import subprocess
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL

import pytest
from mlflow import MlflowClient

from tests.conftest import output_files
from tests.end_to_end.clones import ELSEWHERE, GRID, run, stages_run, surroundings
from tests.repro.conftest import changed, experiment

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]
KILLS = 10


def test_killed_at_random_moments_it_leaves_the_bytes_of_one_that_was_left_alone(
    tmp_path: Path, empty_store: Path
) -> None:
    """The killed one in another locale, time zone and order of hashes, too."""
    alone, killed = (experiment(tmp_path / name, empty_store) for name in ("alone", "killed"))
    for folder in (alone, killed):
        changed(folder, "training", steps=300, evaluate_every=50, snapshots=1, stop_when_converged=False)
    run(alone, *GRID)
    moments = random.Random(os.getpid())
    for _ in range(KILLS):
        with subprocess.Popen(
            GRID, cwd=killed, env=surroundings(killed) | ELSEWHERE, stdout=DEVNULL, stderr=DEVNULL
        ) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.0, 20.0))
            process.kill()
    run(killed, *GRID, **ELSEWHERE)
    one, other = output_files(alone), output_files(killed)
    assert {path for path in one | other if one.get(path) != other.get(path)} == set()
    assert stages_run(run(killed, "dvc", "repro", "report")) == []
    client = MlflowClient(f"sqlite:///{killed}/mlflow.db")
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert {one.info.status for one in found} <= {"FINISHED", "KILLED"}
