"""A grid on a real DVC project: what fails is named, what is done is kept, and nothing is kept under a false name."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.errors import UserError
from pipeline.params import Overrides, Params
from pipeline.repro import driver, ledger
from tests.repro.conftest import changed

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]


def start(project: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "repro", "--jobs", "2"],
        cwd=project,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(project: Path) -> tuple[int, str]:
    """Exit code and what was said."""
    with start(project) as process:
        said, _ = process.communicate(timeout=200)
    return process.returncode, said


def while_training(process: "subprocess.Popen[str]", project: Path, *ablations: str) -> Iterator[None]:
    """Until these ablations are seen to train."""
    while not all(steps(project / ".repro" / f"{ablation}.json") for ablation in ablations):
        assert process.poll() is None, process.stdout and process.stdout.read()
        yield time.sleep(0.05)


def steps(path: Path) -> int:
    return int(json.loads(path.read_text())["step"]) if path.exists() else 0


def ran(said: str) -> set[str]:
    """The jobs that ended well."""
    return {line.split(":")[0] for line in said.splitlines() if ": done;" in line}


def test_what_ends_while_dvc_is_at_work_waits_for_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    hold = "from dvc.repo import Repo\nwith Repo() as repo, repo.lock:\n    print('held', flush=True)\n    input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="DVC is at work in this folder already"):
            ledger.stale(["generate@addition"])
        threading.Timer(5.0, other.stdin.close).start()  # longer than DVC itself tries
        assert ledger.keep(ledger.Begun([], {})) == []


def test_what_takes_longest_starts_first(smoke: Params) -> None:
    said: dict[str, Any] = {
        "shallow": {"model": {"layers": 1}},
        "usual": {},
        "full": {"model": {"attention": "full"}},
        "short": {"training": {"steps": 50, "evaluate_every": 25}},
        "same": {},
    }
    ablations = {name: Overrides(task="addition", **overrides) for name, overrides in said.items()}
    ablations = smoke.model_copy(update={"ablations": ablations}).all_ablations()
    assert list(driver.longest_first(ablations)) == ["full", "usual", "same", "shallow", "short"]


def test_what_fails_is_named_and_what_is_done_is_kept(project: Path) -> None:
    changed(project, "ablations", two={"task": "addition", "training": {"accelerator": "tpu"}})
    code, said = run(project)
    assert code == 1
    assert ran(said) == {"generate-addition", "one"}
    last = said.splitlines()[-1]
    assert last.startswith("error: grid: 1 of 2 jobs failed: two (exit code 2: training.accelerator: 'tpu' is not")
    assert ".repro/two.log" in last
    assert not (project / "reports" / "summary.md").exists()
    changed(project, "ablations", two={"task": "addition", "model": {"layers": 1}})
    code, said = run(project)
    assert (code, ran(said)) == (0, {"two"}), said
    assert (project / "reports" / "summary.md").exists()
    assert run(project) == (0, "nothing is stale\n")

    lock = project / "dvc.lock"
    ours = lock.read_text()
    lock.write_text(from_elsewhere(ours))
    code, said = run(project)
    assert (code, ran(said)) == (0, set()), said
    assert "step" not in said, f"DVC trained once more what was there:\n{said}"
    assert lock.read_text() == ours


def from_elsewhere(lock: str) -> str:
    """A lock file in which the same inputs gave other bytes, as on another kind of processor, or on a GPU."""
    stages = YAML(typ="safe").load(lock)["stages"]
    for out in (out for name in stages if not name.startswith("generate") for out in stages[name]["outs"]):
        digest = out["md5"].removesuffix(".dir")
        lock = lock.replace(digest, digest[::-1])
    return lock


def test_a_result_whose_parameters_changed_meanwhile_is_not_kept(project: Path) -> None:
    changed(project, "training", steps=1000, evaluate_every=500, stop_when_converged=False)
    changed(project, "ablations", two={"task": "addition", "training": {"steps": 20, "evaluate_every": 10}})
    with start(project) as process:
        for _ in while_training(process, project, "one"):
            pass
        changed(project, "ablations", one={"task": "addition", "model": {"layers": 1}})
        said, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "one (params.yaml: ablations.one changed while it ran" in said.splitlines()[-1]
    assert ran(said) == {"generate-addition", "two"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        one, two = ledger.stale(["train@one"], ["train@two", "evaluate@two", "analyze@two"])
    assert (one.stages, two.stages) == (["train@one"], [])


def test_a_second_is_refused_and_ctrl_c_stops_all_and_the_next_call_goes_on(project: Path) -> None:
    changed(project, "training", steps=20_000, evaluate_every=10_000, warmup_steps=1)
    with start(project) as process:
        for _ in while_training(process, project, "one", "two"):
            pass
        code, said = run(project)
        assert (code, said) == (
            2,
            f"error: grid: another one is at work in this folder (process {process.pid}); wait for it to end\n",
        )
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert not [path for path in Path("/proc").glob("[0-9]*/cwd") if path.resolve() == project]
    assert not list(project.glob("models/*"))
    changed(project, "training", steps=20, evaluate_every=10)
    code, said = run(project)
    assert (code, ran(said)) == (0, {"one", "two"}), said
