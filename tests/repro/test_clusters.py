"""A grid on real clusters of two nodes: a worker that is killed costs time, and nothing else."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.repro import driver
from pipeline.tasks.registry import read_params
from tests.conftest import output_files
from tests.faults.clusters import CLUSTERS, ray_address, ray_cluster, slurm, slurm_configuration
from tests.repro.conftest import changed, experiment

__all__ = ["ray_address", "ray_cluster", "slurm", "slurm_configuration"]  # fixtures
pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]


def longer(project: Path) -> Path:
    """So that there is time to kill a worker."""
    changed(project, "training", steps=300, evaluate_every=50, stop_when_converged=False)
    return project


def run(project: Path, engine: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        driver.run(read_params(), engine=engine, jobs=2, gpus=0.0)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> dict[Path, bytes]:
    """What is made where nothing happens."""
    project = longer(experiment(tmp_path_factory.mktemp("expected") / "project", empty_store))
    run(project, "processes")
    return output_files(project)


def kill_who_runs(job: str, project: Path, killed: list[int]) -> None:
    """Kill -9 the worker of a job as soon as it is seen to train, and say which that was."""
    while not (project / ".repro" / f"{job}.json").exists():
        time.sleep(0.05)
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it is gone
            command = (path / "cmdline").read_bytes().split(b"\0")
            if (path / "cwd").resolve() == project and b"job" in command and job.encode() in command:
                killed.append(int((path / "stat").read_text().rpartition(")")[2].split()[1]))
                os.kill(killed[-1], signal.SIGKILL)
                return


@pytest.mark.parametrize("engine", sorted(CLUSTERS))
def test_a_killed_worker_changes_nothing_in_the_end(
    engine: str, project: Path, expected: dict[Path, bytes], request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(CLUSTERS[engine])
    longer(project)
    killed: list[int] = []
    killer = threading.Thread(target=kill_who_runs, args=("one", project, killed), daemon=True)
    killer.start()
    run(project, engine)
    killer.join(timeout=1)
    assert not killer.is_alive()
    assert len(killed) == 1
    assert output_files(project) == expected
