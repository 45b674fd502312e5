"""Engines on real clusters whose jobs and nodes are lost, and engines that are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.engines import ENGINES, Command, Limits
from pipeline.errors import RunError, UserError
from tests.faults import slurm_cluster
from tests.faults.clusters import PROJECT, ray_address, ray_cluster, slurm, slurm_configuration

__all__ = ["ray_address", "ray_cluster", "slurm", "slurm_configuration"]
pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]
ONCE = "mark = pathlib.Path(sys.argv[1])\nif mark.exists(): sys.exit(7)\nmark.touch()\n"
"""Code that goes on the first time only; then it exits with 7."""


def python(code: str, *arguments: object) -> Command:
    return Command((sys.executable, "-c", f"import os, pathlib, sys\n{code}", *map(str, arguments)))


def run(engine: str, *commands: Command, gpus: float = 0.0) -> list[int]:
    codes: dict[int, int] = {}
    ENGINES[engine].run(commands, Limits(2, gpus), codes.__setitem__)
    return [codes[index] for index in sorted(codes)]


def refusal(engine: str, gpus: float = 0.0) -> str:
    """The error of a command that the engine refuses, a single line."""
    with pytest.raises(UserError, match=f"^--engine {engine}: .*$") as refused:
        run(engine, python(""), gpus=gpus)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def living(folder: Path) -> set[int]:
    """The processes, other than this one, whose current folder is `folder`."""
    processes = {process.pid for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(folder)}
    return processes - {os.getpid()}


@pytest.mark.parametrize("killed", ["the caller", "the server"])
def test_kill_9_leaves_no_process_behind(tmp_path: Path, killed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    (tmp_path / "endless.py").write_text(
        "import os, pathlib, sys, time\n"
        "from pipeline.engines.command import exit_when_parent_exits\n"
        "exit_when_parent_exits()\n"
        "pathlib.Path(sys.argv[1]).write_text(str(os.getppid()))\n"
        "time.sleep(100)\n"
    )
    script = (
        "import sys\n"
        "from pipeline.engines import ENGINES, Command, Limits, processes\n"
        "processes.PRELOADED_MODULES = []\n"
        "commands = [Command((sys.executable, '-m', 'endless', name)) for name in ('started-1', 'started-2')]\n"
        "ENGINES['processes'].run(commands, Limits(2), print)\n"
    )
    started = [tmp_path / "started-1", tmp_path / "started-2"]
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as caller:
        while not all(path.exists() and path.read_text() for path in started):
            assert caller.poll() is None
            time.sleep(0.1)
        (server,) = {int(path.read_text()) for path in started}
        os.kill(caller.pid if killed == "the caller" else server, signal.SIGKILL)
        errors = caller.communicate()[1]
    if killed == "the server":
        assert "RunError: --engine processes: " in errors
    while living(tmp_path):
        time.sleep(0.1)


def test_ray_commands_can_share_a_gpu(ray_cluster: None, tmp_path: Path) -> None:
    code = "open(sys.argv[1], 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"
    paths = [tmp_path / "one", tmp_path / "two"]
    assert run("ray", *(python(code, path) for path in paths), gpus=0.5) == [0, 0]
    assert [path.read_text() for path in paths] == ["0", "0"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_a_ray_cluster_that_does_not_answer_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert "cluster" in refusal("ray")


def test_without_the_programs_of_a_cluster_an_error_names_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install -e '.[cluster]'" in refusal("ray")  # the name on PyPI is nobody's
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "sbatch" in refusal("slurm")
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert "pip install -e '.[cluster]'" in refusal("slurm")


def test_a_slurm_job_that_is_lost_is_run_again_and_one_that_failed_is_not(slurm: None) -> None:
    """The process that waits for the command on its node is killed, so that no exit code is written."""
    lost, failed = ONCE + "os.kill(os.getppid(), 9)", ONCE + "sys.exit(3)"
    assert run("slurm", python(lost, "one"), python(failed, "two"), python(lost, "three")) == [7, 3, 7]
    assert list(Path(".slurm").iterdir()) == []


def test_a_slurm_job_whose_node_is_lost_is_run_on_another(
    slurm: None, slurm_configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_NO_REQUEUE", "1")  # SLURM requeues too, after two minutes
    lose_node = "os.system('scontrol update nodename=$SLURMD_NODENAME state=down reason=x'); sys.stdin.read()"
    try:
        assert run("slurm", python(ONCE + lose_node, "one")) == [7]
    finally:
        subprocess.run(["scontrol", "update", "nodename=ALL", "state=resume"])
        slurm_cluster.wait_until_idle(slurm_configuration)


def test_a_slurm_job_that_is_lost_too_often_is_an_error_of_one_line_that_names_its_log(
    slurm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.engines.slurm.MAX_RETRIES", 1)
    with pytest.raises(RunError, match=r"1 of 2 .* 2 times") as failed:
        run("slurm", python("os.kill(os.getppid(), 9)"), python(""))
    assert "\n" not in str(failed.value)
    assert list(Path(str(failed.value).rpartition(" ")[2]).glob("*_log.out"))


def test_variables_of_sbatch_take_precedence(slurm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    query = "os.system('squeue -h -j $SLURM_JOB_ID -o \"%j %l\" > job')"
    assert run("slurm", python(query)) == [0]
    assert Path("job").read_text() == "breaking-symmetry 10:00\n"  # the limit of the partition
    monkeypatch.setenv("SBATCH_JOB_NAME", "mine")
    monkeypatch.setenv("SBATCH_TIMELIMIT", "5")
    assert run("slurm", python(query)) == [0]
    assert Path("job").read_text() == "mine 5:00\n"


def test_slurm_jobs_get_whole_gpus(slurm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "print(*map(os.environ.get, ('CUDA_VISIBLE_DEVICES', 'SLURM_JOB_GPUS')), file=open(sys.argv[1], 'w'))"
    assert run("slurm", python(code, "one"), python(code, "two"), gpus=1.0) == [0, 0]
    assert [Path(name).read_text() for name in ("one", "two")] == ["0 0\n", "0 0\n"]
    assert "0.5" in refusal("slurm", gpus=0.5)
    monkeypatch.setenv("SBATCH_GRES", "none")
    assert run("slurm", python(code, "one"), gpus=1.0) == [0]
    assert Path("one").read_text() == "None None\n"


def test_output_of_slurm_jobs_is_passed_on(slurm: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("slurm", python("print('one')"), python("print('two', file=sys.stderr)")) == [0, 0]
    assert sorted(capsys.readouterr().err.splitlines()) == ["one", "two"]


def test_jobs_that_slurm_rejects_are_an_error_of_one_line(slurm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "nonsense")
    assert "partition" in refusal("slurm")


def test_a_slurm_cluster_that_does_not_answer_is_an_error_of_one_line(
    slurm: None, slurm_configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = "SlurmctldPort=1\nMessageTimeout=1\n"
    (tmp_path / "slurm.conf").write_text(slurm_configuration.read_text().replace("SlurmctldPort=", dead + "#"))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    assert "no cluster answers" in refusal("slurm")
