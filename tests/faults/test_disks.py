"""Disks that are full, read-only or not permitted: the error is one line, results that exist stay as they are, and the
command works again afterwards. Real file systems, mounted for the test, and real commands."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.params import PARAMS_FILE
from tests.conftest import PRESETS
from tests.faults import powerless
from tests.faults.forks import Run, forks

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

ABLATION = "learned-causal"
SIZE = 32 << 20
"""Bytes of each disk."""
PAGE = 4096
"""Bytes in a block of such a disk."""
DISKS = ("data", "models", ".checkpoints", "store", "reports")
Fault = Callable[[Path], AbstractContextManager[None]]


@dataclass(frozen=True)
class Project:
    """One ablation of the smoke preset, with half the steps; every folder is a disk of its own."""

    folder: Path
    run: Run

    def succeeds(self, *arguments: str) -> str:
        """Run a command that must succeed, and return its output."""
        code, output = self.run(*arguments)
        assert code == 0, output
        return output

    def fails(self, *arguments: str, disk: str, why: str) -> None:
        """Run a command that must fail with one line that names the file and the reason, and change nothing."""
        before = contents(self.folder / disk)
        code, output = self.run(*arguments)
        assert code == 1, output
        assert "Traceback" not in output, output
        line = output.strip().splitlines()[-1]
        assert line.startswith(f"error: {' '.join(arguments[:2])}: {disk}/"), output
        assert why in line, output
        assert contents(self.folder / disk) == before


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("project")
    yaml = YAML()
    content = yaml.load(PRESETS / "smoke.yaml")
    content["ablations"] = {ABLATION: content["ablations"][ABLATION]}
    content["tasks"] = {"addition": content["tasks"]["addition"]}
    content["comparisons"] = []
    content["model"] = {"layers": 1, "heads": 1, "width": 16}  # fast to train and analyse
    content["training"] |= {"steps": 50, "evaluate_every": 10, "snapshots": 0}
    content["search"] |= {"trials": 2, "generation": 2, "enumerate_up_to": 4, "steps": 10}
    content["tracking"] = {"uri": "sqlite:///store/mlflow.db"}
    yaml.dump(content, folder / PARAMS_FILE)
    shutil.copy(powerless.__file__, folder)
    with ExitStack() as mounted, forks(folder, "powerless") as run:
        for name in DISKS:
            (folder / name).mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder / name)]
            if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
                pytest.skip("mounting a tmpfs needs root, on Linux")
            mounted.callback(subprocess.run, ["umount", "--lazy", str(folder / name)], check=True)
        yield Project(folder, run)


@contextmanager
def full(disk: Path, *, room: int = 0) -> Iterator[None]:
    """Fill the disk until `room` bytes are left."""
    filler = disk / ".filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, (shutil.disk_usage(disk).free - room) // PAGE * PAGE)
    yield
    filler.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


@contextmanager
def forbidden(disk: Path) -> Iterator[None]:
    folders = [disk, *(path for path in disk.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield
    for folder in folders:
        folder.chmod(0o755)


FAULTS: dict[str, Fault] = {
    "No space left on device": full,
    "Read-only file system": read_only,
    "Permission denied": forbidden,
}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def generated(project: Project) -> Project:
    """The project with a dataset, for which there was no room at first."""
    with full(project.folder / "data", room=2 * PAGE):
        project.fails("generate", "addition", disk="data", why="No space left on device; ")
    assert contents(project.folder / "data") == {}
    project.succeeds("generate", "addition")
    return project


@pytest.fixture(scope="module")
def reported(generated: Project) -> Project:
    """The project with a trained ablation and a report."""
    for arguments in (("train", ABLATION), ("evaluate", ABLATION), ("analyze", ABLATION), ("collect",), ("report",)):
        generated.succeeds(*arguments)
    return generated


@pytest.mark.parametrize("why", FAULTS)
@pytest.mark.parametrize(
    ("arguments", "disk"),
    [
        (("generate", "addition"), "data"),
        (("train", ABLATION), "models"),
        (("evaluate", ABLATION), "reports"),
        (("report",), "reports"),
    ],
    ids=["dataset", "weights", "evaluation", "report"],
)
def test_results_stay_and_the_command_works_again_when_the_fault_is_gone(
    reported: Project, arguments: tuple[str, ...], disk: str, why: str
) -> None:
    before = contents(reported.folder / disk)
    with FAULTS[why](reported.folder / disk):
        reported.fails(*arguments, disk=disk, why=why)
    reported.succeeds(*arguments)
    assert contents(reported.folder / disk) == before


@pytest.mark.parametrize("why", FAULTS)
@pytest.mark.parametrize(
    ("disk", "warning"),
    [(".checkpoints", "warning: no checkpoint can be kept in .checkpoints"), ("store", "warning: not tracked")],
)
def test_checkpoints_and_tracking_cost_a_warning_but_no_training(
    reported: Project, disk: str, warning: str, why: str
) -> None:
    before = contents(reported.folder / "models")
    with FAULTS[why](reported.folder / disk):
        output = reported.succeeds("train", ABLATION)
    assert output.count("warning:") == output.count(warning) == 1, output
    assert contents(reported.folder / "models") == before


def test_tracking_catches_up_once_when_there_is_room(reported: Project) -> None:
    with full(reported.folder / "store"):
        assert "not tracked" in reported.succeeds("train", ABLATION)
    reported.succeeds("track")
    assert reported.succeeds("track") == f"{ABLATION}: already there\n"


@pytest.mark.parametrize("fault", FAULTS.values())
def test_a_search_resumes_when_there_is_room(generated: Project, fault: Fault) -> None:
    database = generated.folder / "reports" / "search" / "study.db"
    shutil.rmtree(database.parent, ignore_errors=True)  # the search of an earlier fault is complete
    database.parent.mkdir()
    with fault(generated.folder / "reports"):
        code, output = generated.run("search")
    assert code in (1, 2), output
    assert "Traceback" not in output, output
    assert str(database.relative_to(generated.folder)) in output.strip().splitlines()[-1]
    generated.succeeds("search")
    assert (database.parent / "index.html").exists()
