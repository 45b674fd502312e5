"""What only SLURM can do, and how it says that it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.engines import ENGINES, Command
from pipeline.errors import RunError, UserError
from tests.engines import slurm_cluster

pytestmark = pytest.mark.faults

GONE = "mark = pathlib.Path(sys.argv[1])\nif mark.exists(): sys.exit(7)\nmark.touch()\n"


def python(code: str, *arguments: str, **environment: str) -> Command:
    return Command((sys.executable, "-c", "import os, pathlib, subprocess, sys\n" + code, *arguments), environment)


def run(*commands: Command, gpus: float | None = 0.0) -> list[int]:
    return ENGINES["slurm"].run(commands, workers=2, gpus=gpus)


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.timeout(120)
def test_a_job_that_is_lost_is_run_again_and_one_that_failed_is_not(slurm: None) -> None:
    """Who waits for the command on its node is killed, so that nobody says how it ended."""
    lost, failed = GONE + "os.kill(os.getppid(), 9)", GONE + "sys.exit(3)"
    assert run(python(lost, "one"), python(failed, "two"), python(lost, "three")) == [7, 3, 7]
    assert list(Path(".slurm").iterdir()) == []


@pytest.mark.timeout(120)
def test_a_job_whose_node_is_lost_is_run_on_another(
    slurm: None, controller: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_NO_REQUEUE", "1")  # SLURM does it too, after two minutes
    down = (
        "subprocess.run(['scontrol', 'update', 'nodename=' + os.environ['SLURMD_NODENAME'], 'state=down', 'reason=x'])"
    )
    try:
        assert run(python(GONE + down + "\nsys.stdin.read()", "one")) == [7]
    finally:
        subprocess.run(["scontrol", "update", "nodename=ALL", "state=resume"])
        slurm_cluster.wait_until_idle(controller)


@pytest.mark.timeout(120)
def test_a_job_that_is_lost_time_after_time_is_told_in_one_line_that_names_its_log(
    slurm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.engines.slurm.RETRIES", 1)
    with pytest.raises(RunError, match="1 of 2 jobs were lost 2 times; see ") as failed:
        run(python("os.kill(os.getppid(), 9)"), python(""))
    assert "\n" not in str(failed.value)
    assert list(Path(str(failed.value).rpartition(" ")[2]).glob("*_log.out"))


@pytest.mark.timeout(120)
def test_what_users_say_to_sbatch_comes_first(slurm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = "subprocess.run(['squeue', '-h', '-j', os.environ['SLURM_JOB_ID'], '-o', '%j %l'], stdout=open('asked', 'w'))"
    assert run(python(ask)) == [0]
    assert Path("asked").read_text() == "breaking-symmetry 10:00\n"  # the partition's own limit
    monkeypatch.setenv("SBATCH_JOB_NAME", "mine")
    monkeypatch.setenv("SBATCH_TIMELIMIT", "5")
    assert run(python(ask)) == [0]
    assert Path("asked").read_text() == "mine 5:00\n"


@pytest.mark.timeout(120)
def test_a_gpu_is_given_as_a_whole(slurm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    tell = (
        "print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('SLURM_JOB_GPUS'), file=open(sys.argv[1], 'w'))"
    )
    assert run(python(tell, "one"), python(tell, "two"), gpus=None) == [0, 0]
    assert [Path(name).read_text() for name in ("one", "two")] == ["0 0\n", "0 0\n"]
    with pytest.raises(UserError, match=r"--engine slurm: gives GPUs as a whole, not 0\.5 of one"):
        run(python(""), gpus=0.5)
    monkeypatch.setenv("SBATCH_GRES", "none")
    assert run(python(tell, "one"), gpus=None) == [0]
    assert Path("one").read_text() == "None None\n"


@pytest.mark.timeout(120)
def test_what_a_job_says_is_passed_on(slurm: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(python("print('one')"), python("print('two', file=sys.stderr)")) == [0, 0]
    assert sorted(capsys.readouterr().err.splitlines()) == ["one", "two"]


@pytest.mark.timeout(120)
def test_a_job_that_slurm_does_not_take_is_told_in_one_line(slurm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "nonsense")
    with pytest.raises(UserError, match=r"--engine slurm: .*[Ii]nvalid partition") as refused:
        run(python(""))
    assert "\n" not in str(refused.value)


@pytest.mark.timeout(120)
def test_a_cluster_that_does_not_answer_is_told_in_one_line(
    slurm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path(os.environ["SLURM_CONF"]).read_text()
    dead = "SlurmctldPort=1\nMessageTimeout=1\n"
    (tmp_path / "slurm.conf").write_text(text.replace("SlurmctldPort=", dead + "#"))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    with pytest.raises(UserError, match="--engine slurm: no cluster answers") as refused:
        run(python(""))
    assert "\n" not in str(refused.value)


def test_without_slurm_or_submitit_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="--engine slurm: there is no sbatch on this machine"):
        run(python(""))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"--engine slurm: submitit is not installed \(pip install"):
        run(python(""))
