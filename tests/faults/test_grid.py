"""A grid that is killed over and over ends with the bytes of one that was left alone. Real processes, kill -9."""

import os
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL

import pytest
from mlflow import MlflowClient

from tests.conftest import made
from tests.end_to_end.clones import cloned, run, surroundings

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]
KILLS = 10
GRID = (sys.executable, "-m", "pipeline", "grid", "--jobs", "2")


def test_killed_at_random_moments_it_leaves_the_bytes_of_one_that_was_left_alone(tmp_path: Path) -> None:
    alone, killed = cloned(tmp_path / "alone"), cloned(tmp_path / "killed")
    run(alone, *GRID)
    moments = random.Random(os.getpid())
    for _ in range(KILLS):
        with subprocess.Popen(GRID, cwd=killed, env=surroundings(killed), stdout=DEVNULL, stderr=DEVNULL) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.0, 15.0))
            process.kill()
    run(killed, *GRID)
    one, other = made(alone), made(killed)
    assert {path for path in one | other if one.get(path) != other.get(path)} == set()
    client = MlflowClient(f"sqlite:///{killed}/mlflow.db")
    found = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert {one.info.status for one in found} <= {"FINISHED", "KILLED"}
