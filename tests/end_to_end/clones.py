"""Clones of this project, as a user has them, with the smoke preset."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parent.parent.parent
GRID = (sys.executable, "-m", "pipeline", "repro", "--jobs", "2")
ELSEWHERE = {"LC_ALL": "C", "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "3", "OMP_NUM_THREADS": "2"}
"""What differs between two people's machines of one kind."""
LEFT_OUT = (
    "  learned-causal: {task: addition}\n",
    "  nope-causal-no-residual-0: {task: addition, model: {positional: none, residual_free: [0]}}\n",
)
ADDED = "  nope-causal: {task: addition, model: {positional: none}}\n"
COMPARED = "comparisons:\n  - {first: nope-causal, second: learned-causal}\n"
SHORTER = {
    "warmup_steps: 20": "warmup_steps: 5",
    "  steps: 100": "  steps: 20",
    "evaluate_every: 50": "evaluate_every: 10",
    "trials: 4": "trials: 2",
    "confirm: [333, 444]": "confirm: []",
}


def run(folder: Path, *command: str, expect: int = 0, **environment: str) -> str:
    """Run `command` in `folder` with this Python first on the path; what it printed."""
    done = subprocess.run(
        command, cwd=folder, env=surroundings(folder) | environment, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == expect, f"{command} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def surroundings(folder: Path) -> dict[str, str]:
    """The environment of what is run in `folder`."""
    python = str(Path(sys.executable).parent)
    return os.environ | {"PATH": f"{python}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder)}


def stages_run(output: str) -> list[str]:
    """The stages that DVC says it ran, in order."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def cloned(folder: Path) -> Path:
    """A clone of the committed and uncommitted files, holding a shorter smoke preset of two ablations; a test adds one."""
    run(PROJECT, "git", "clone", "--quiet", str(PROJECT), str(folder))
    new = run(PROJECT, "git", "ls-files", "--others", "--exclude-standard").splitlines()
    for name in new + run(PROJECT, "git", "diff", "--name-only", "--no-renames", "HEAD").splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (PROJECT / name).is_file():
            shutil.copy(PROJECT / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    run(folder, "python", "-m", "pipeline", "preset", "smoke", "--force")
    text = (folder / "params.yaml").read_text()
    changes = {**dict.fromkeys((*LEFT_OUT, ADDED), ""), COMPARED: "comparisons: []\n"} | SHORTER
    for line, instead in changes.items():
        assert text.count(line) == 1
        text = text.replace(line, instead)
    (folder / "params.yaml").write_text(text)
    return folder
