"""`repro` on real DVC projects: what is killed, fails, or changes meanwhile costs time, and nothing else."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import chdir, suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML

from pipeline.engines import EngineName
from pipeline.errors import UserError
from pipeline.repro import driver, dvc_stages
from pipeline.tasks.registry import read_params
from tests import projects
from tests.faults.clusters import CLUSTERS, ray_address, ray_cluster, slurm, slurm_configuration
from tests.projects import ELSEWHERE, REPRO, create_project, output_files, run

__all__ = ["ray_address", "ray_cluster", "slurm", "slurm_configuration"]
pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]
KILLS = 10
LONGER = {"steps": 300, "evaluate_every": 50, "stop_when_converged": False}
"""Training long enough to be killed."""


@pytest.fixture
def project(tmp_path: Path, empty_store: Path) -> Path:
    """A project without results."""
    return create_project(tmp_path / "project", empty_store)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> dict[Path, bytes]:
    """Files of the longer training where nothing happens."""
    project = create_project(tmp_path_factory.mktemp("expected") / "project", empty_store)
    projects.change(project, "training", **LONGER)
    run(project, *REPRO)
    return output_files(project)


def start(project: Path, *, output: int = subprocess.PIPE, **variables: str) -> "subprocess.Popen[str]":
    env = projects.environment(project) | variables
    return subprocess.Popen(REPRO, cwd=project, env=env, stdout=output, stderr=subprocess.STDOUT, text=True)


def wait_until_training(process: "subprocess.Popen[str]", project: Path, *ablations: str) -> None:
    def step(path: Path) -> int:
        return int(json.loads(path.read_text())["step"]) if path.exists() else 0

    while not all(step(project / ".repro" / f"{ablation}.json") for ablation in ablations):
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.05)


def test_killed_at_random_moments_it_writes_the_same_bytes(project: Path, expected: dict[Path, bytes]) -> None:
    """In another locale, time zone and hash order, too."""
    projects.change(project, "training", **LONGER)
    moments = random.Random(os.getpid())
    for _ in range(KILLS):
        with start(project, output=subprocess.DEVNULL, **ELSEWHERE) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.0, 20.0))
            process.kill()
    run(project, *REPRO, **ELSEWHERE)
    assert projects.differing_files(output_files(project), expected) == set()
    assert projects.executed_stages(run(project, "dvc", "repro", "report")) == []
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}


def test_a_killed_process_that_left_dvcs_list_of_files_in_use_half_written_is_no_obstacle(project: Path) -> None:
    rwlock = project / ".dvc" / "tmp" / "rwlock"
    rwlock.parent.mkdir(exist_ok=True)
    for damaged in ("", '{"write": {'):
        rwlock.write_text(damaged)
        with chdir(project):
            assert not dvc_stages.is_up_to_date("report")
            assert list(dvc_stages.prepare_stale_stages({"data": ["generate@addition"]})) == ["data"]
            json.loads(rwlock.read_text())


def processes_in(folder: Path) -> Iterator[Path]:
    """Entries in /proc of the processes whose current folder is `folder`."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if (path / "cwd").resolve() == folder:
                yield path


def kill_worker(job: str, project: Path, killed: list[int]) -> None:
    """Kill -9 the parent of a job as soon as it is seen to train, and append its process id to `killed`."""
    while not (project / ".repro" / f"{job}.json").exists():
        time.sleep(0.05)
    for path in processes_in(project):
        with suppress(OSError):  # it has ended
            command = (path / "cmdline").read_bytes().split(b"\0")
            if b"job" in command and job.encode() in command:
                killed.append(int((path / "stat").read_text().rpartition(")")[2].split()[1]))
                os.kill(killed[-1], signal.SIGKILL)
                return


@pytest.mark.parametrize("engine", sorted(CLUSTERS))
def test_a_killed_worker_on_a_cluster_changes_no_byte(
    engine: EngineName, project: Path, expected: dict[Path, bytes], request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(CLUSTERS[engine])
    projects.change(project, "training", **LONGER)
    killed: list[int] = []
    killer = threading.Thread(target=kill_worker, args=("one", project, killed), daemon=True)
    killer.start()
    with chdir(project):
        driver.update_report(read_params(), engine=engine, max_jobs=2, gpus_per_job=0.0)
    killer.join(timeout=1)
    assert not killer.is_alive()
    assert len(killed) == 1
    assert projects.differing_files(output_files(project), expected) == set()


def test_a_job_that_ends_while_dvc_runs_waits_for_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    hold = "from dvc.repo import Repo\nwith Repo() as repo, repo.lock:\n    print('held', flush=True)\n    input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="DVC"):
            dvc_stages.prepare_stale_stages({"data": ["generate@addition"]})
        threading.Timer(5.0, other.stdin.close).start()  # longer than DVC itself tries
        assert dvc_stages.save_results(dvc_stages.StaleStages([], {})) == []


def test_a_failed_job_is_named_and_the_results_of_the_others_are_saved(project: Path) -> None:
    ablations = YAML(typ="safe").load(project / "params.yaml")["ablations"]
    projects.change(project, "ablations", two={"task": "addition", "training": {"accelerator": "mps"}})
    output = run(project, *REPRO, code=1)
    assert projects.finished_jobs(output) == {"generate-addition", "one"}
    last = output.splitlines()[-1]
    assert last.startswith("error: repro: 1 of 2 jobs failed: two (exit code 2: training.accelerator: 'mps'")
    assert ".repro/two.log" in last
    assert not (project / "reports" / "summary.md").exists()
    projects.change(project, "ablations", two=ablations["two"])
    assert projects.finished_jobs(run(project, *REPRO)) == {"two"}
    assert (project / "reports" / "summary.md").exists()
    assert run(project, *REPRO) == "nothing is stale\n"

    lock = project / "dvc.lock"
    text = lock.read_text()
    lock.write_text(other_digests(text))
    output = run(project, *REPRO)
    assert projects.finished_jobs(output) == set()
    assert "step" not in output, f"DVC trained again:\n{output}"
    assert lock.read_text() == text


def other_digests(lock: str) -> str:
    """A lock file in which the same inputs gave other bytes, as on another kind of processor, or on a GPU."""
    stages = YAML(typ="safe").load(lock)["stages"]
    for out in (out for name in stages if not name.startswith("generate") for out in stages[name]["outs"]):
        digest = out["md5"].removesuffix(".dir")
        lock = lock.replace(digest, digest[::-1])
    return lock


def test_results_belong_to_the_parameters_with_which_repro_began(project: Path) -> None:
    projects.change(project, "training", steps=1000, evaluate_every=500, stop_when_converged=False)
    projects.change(project, "ablations", two={"task": "addition", "training": {"steps": 20, "evaluate_every": 10}})
    with start(project) as process:
        wait_until_training(process, project, "one")
        projects.change(project, "ablations", one={"task": "addition", "model": {"layers": 2}})
        output, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "settings of one changed" in output.splitlines()[-1]
    assert projects.finished_jobs(output) == {"generate-addition", "one", "two"}
    assert layers_of_one(project) == 1
    assert projects.finished_jobs(run(project, *REPRO)) == {"one"}
    assert layers_of_one(project) == 2


def layers_of_one(project: Path) -> int:
    """Number of layers of the ablation `one` as it was trained."""
    return int(json.loads((project / "models/one/config.json").read_text())["model"]["layers"])


def test_a_second_repro_is_refused_and_ctrl_c_stops_all_jobs_and_the_next_call_continues(project: Path) -> None:
    projects.change(project, "training", steps=20_000, evaluate_every=10_000, warmup_steps=1)
    with start(project) as process:
        wait_until_training(process, project, "one", "two")
        refusal = run(project, *REPRO, code=2)
        assert refusal.startswith("error: repro: ")
        assert f"process {process.pid}" in refusal
        assert len(refusal.splitlines()) == 1
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "interrupted" in output
    assert not list(processes_in(project))
    assert not list(project.glob("models/*"))
    projects.change(project, "training", steps=20, evaluate_every=10)
    assert projects.finished_jobs(run(project, *REPRO)) == {"one", "two"}
