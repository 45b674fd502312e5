"""A small experiment in a folder of its own, and commands that run there as a user's do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.params import Params
from pipeline.stages import analyze, collect, evaluate, generate, report, train
from tests.conftest import PRESETS

PROJECT = Path(__file__).parent.parent
REPRO = (sys.executable, "-m", "pipeline", "repro", "--jobs", "2")
ELSEWHERE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Pacific/Kiritimati"}
ELSEWHERE |= {"PYTHONHASHSEED": "3", "OMP_NUM_THREADS": "2", "FORCE_COLOR": "1"}
"""Environment that differs between two people's machines of one kind."""


def create_project(folder: Path, empty_store: Path) -> Path:
    """Create a DVC project with two quick ablations, one of them order-blind, and no results."""
    bytecode = shutil.ignore_patterns("cache", "tmp")  # importing is slow without
    for name in ("pipeline", ".dvc"):
        shutil.copytree(PROJECT / name, folder / name, ignore=bytecode)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "answers.md.j2"):
        shutil.copy(PROJECT / name, folder / name)
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    content = YAML(typ="safe").load(PRESETS / "smoke.yaml")
    content |= {
        "tasks": {"addition": content["tasks"]["addition"]},
        "ablations": {
            "one": {"task": "addition", "model": {"layers": 1}},
            "two": {"task": "addition", "model": {"layers": 1, "positional": "none", "attention": "full"}},
        },
        "comparisons": [],
        "training": content["training"] | {"seeds": [1], "snapshots": 1, "steps": 20, "evaluate_every": 10},
    }
    shutil.copy(empty_store, folder / "mlflow.db")
    YAML().dump(content, folder / "params.yaml")
    return folder


def change(project: Path, section: str, **settings: object) -> None:
    """Change settings in a section of the project's params.yaml."""
    content = YAML(typ="safe").load(project / "params.yaml")
    content[section] |= settings
    YAML().dump(content, project / "params.yaml")


def environment(project: Path) -> dict[str, str]:
    """The environment of a project's commands: its code, this Python first on the path, and bytecode is kept."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = os.environ | {"PATH": path, "PYTHONPATH": str(project)}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables


def run(project: Path, *command: str, code: int = 0, **variables: str) -> str:
    """Run a command in the project and return its output; it must end with this exit code."""
    done = subprocess.run(
        command, cwd=project, env=environment(project) | variables, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == code, f"{command} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def make(*arguments: str) -> str:
    """Run make in the project, and return its output."""
    done = subprocess.run(["make", *arguments], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def executed_stages(output: str) -> list[str]:
    """The stages that DVC ran, in order, by its output."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def finished_jobs(output: str) -> set[str]:
    """The jobs of `repro` that ended well, by its output."""
    return {line.split(":")[0] for line in output.splitlines() if ": done;" in line}


def run_stages(params: Params) -> None:
    """Run all stages in this process, in the current folder."""
    for name in params.tasks:
        generate.run(params, name)
    for name in params.ablations:
        for stage in (train, evaluate, analyze):
            stage.run(params, name)
    collect.run(params)
    report.run(params)


def output_files(project: Path) -> dict[Path, bytes]:
    """Content of every file that the stages wrote in a project, without the search's, and of dvc.lock."""
    paths = [path for top in ("data", "models", "reports") for path in (project / top).rglob("*") if path.is_file()]
    without_search = [path for path in paths if "search" not in path.relative_to(project).parts]
    return {path.relative_to(project): path.read_bytes() for path in [*without_search, project / "dvc.lock"]}


def differing_files(first: dict[Path, bytes], second: dict[Path, bytes]) -> set[Path]:
    """Files that only one of two projects has, or whose content differs."""
    return {path for path in first | second if first.get(path) != second.get(path)}
