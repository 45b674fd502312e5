"""Training that is interrupted or killed leaves no partial result, and resumes. Real processes, real signals."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from pipeline import dataset
from pipeline.tasks.registry import read_params
from tests.conftest import PRESETS
from tests.faults.forks import forks

pytestmark = pytest.mark.faults

PROJECT = Path(__file__).parent.parent.parent
ABLATION = "learned-causal"
KILLS = 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Project folder with the smoke preset, too long to finish, and its dataset."""
    set_steps(tmp_path, 100_000)
    dataset.write(tmp_path / "data" / "addition", read_params(tmp_path / "params.yaml").task("addition"))
    return tmp_path


def set_steps(folder: Path, steps: int) -> None:
    text = (PRESETS / "smoke.yaml").read_text()
    (folder / "params.yaml").write_text(text.replace("steps: 100", f"steps: {steps}\n  stop_when_converged: false"))
    assert read_params(folder / "params.yaml").training.steps == steps


@pytest.fixture
def training(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Process of `train` after its first evaluation."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train", ABLATION],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    assert process.stderr is not None
    if not any("step 50/" in line for line in process.stderr):
        pytest.fail("training ended before its first evaluation")
    yield process
    watchdog.cancel()
    process.kill()
    process.wait()
    process.stderr.close()


def statuses(folder: Path, shown: int = ViewType.ACTIVE_ONLY) -> set[str]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'breaking-symmetry'")
    return {run.info.status for run in client.search_runs([experiment.experiment_id], run_view_type=shown)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_one_line_and_runs_marked_killed(
    folder: Path, training: subprocess.Popen[str], number: signal.Signals
) -> None:
    """Ctrl-C, or what `kill` and schedulers send. The line names the command that continues."""
    training.send_signal(number)
    _, output = training.communicate(timeout=60)
    assert training.returncode == 130, output
    assert output.strip().splitlines()[-1].startswith("interrupted")
    assert f"`python -m pipeline train {ABLATION}`" in output
    assert "Traceback" not in output
    assert not (folder / "models" / ABLATION).exists()
    assert statuses(folder) == {"KILLED"}


@pytest.mark.timeout(1200)
def test_kill_9_leaves_no_model_and_training_resumes_to_the_same_end(folder: Path) -> None:
    """Killed at random moments, and compared with an undisturbed training."""
    generator = random.Random(os.getpid())
    set_steps(folder, 600)
    with forks(folder) as run:
        assert run("train", ABLATION)[0] == 0
        undisturbed = model_files(folder)
        shutil.rmtree(folder / "models")
        (folder / "mlflow.db").unlink()
        for kill in range(KILLS):
            after, longest = ("exact match", 0.4) if kill % 2 else ("", 1.0)  # while it trains, or while it starts
            code, output = run("train", ABLATION, after=after, seconds=generator.uniform(0.0, longest))
            assert code == -signal.SIGKILL, output
            assert model_files(folder) == {}
        code, output = run("train", ABLATION)
    assert code == 0, output
    assert f"{ABLATION}: resumes at step" in output
    assert model_files(folder) == undisturbed
    assert not list((folder / ".checkpoints").glob("*/*/*"))
    assert statuses(folder) == {"FINISHED"}
    assert statuses(folder, ViewType.DELETED_ONLY) == {"KILLED"}


def model_files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.glob("models/**/*") if path.is_file()}
