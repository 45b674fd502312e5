"""A disk that is full, or must not be written to, by anyone or by this user: one line, what was good stays good, and
with room or leave the same command goes on. Real file systems, mounted for the test; real commands."""

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

CELL = "learned-causal"
SIZE = 32 << 20
"""Of each disk, in bytes."""
PAGE = 4096
"""Of memory, and so of such a disk."""
DISKS = ("data", "models", ".checkpoints", "store", "reports")
Trouble = Callable[[Path], AbstractContextManager[None]]


def mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@dataclass(frozen=True)
class Project:
    """One ablation of the smoke preset, half as long, whose every folder is a disk."""

    folder: Path
    run: Run

    def disk(self, name: str) -> Path:
        return self.folder / name

    def does(self, *arguments: str) -> str:
        """What a command says that ends well."""
        code, said = self.run(*arguments)
        assert code == 0, said
        return said

    def ends_in_one_line(self, *arguments: str, disk: str, why: str) -> None:
        """Which names the place and the trouble; and it leaves what is there as it was."""
        before = contents(self.disk(disk))
        code, said = self.run(*arguments)
        assert code == 1, said
        assert "Traceback" not in said, said
        line = said.strip().splitlines()[-1]
        assert line.startswith(f"error: {' '.join(arguments[:2])}: {disk}/"), said
        assert why in line, said
        assert contents(self.disk(disk)) == before


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("project")
    yaml = YAML()
    content = yaml.load(PRESETS / "smoke.yaml")
    content["ablations"] = {CELL: content["ablations"][CELL]}
    content["tasks"] = {"addition": content["tasks"]["addition"]}
    content["comparisons"] = []
    content["model"] = {"layers": 1, "heads": 1, "width": 16}  # is soon trained and analysed
    content["training"] |= {"steps": 50, "evaluate_every": 10, "snapshots": 0}
    content["search"] |= {"trials": 2, "steps": 10, "confirm": []}
    content["tracking"] = {"uri": "sqlite:///store/mlflow.db"}
    yaml.dump(content, folder / PARAMS_FILE)
    shutil.copy(powerless.__file__, folder)
    with ExitStack() as mounted, forks(folder, "powerless") as run:
        for name in DISKS:
            (folder / name).mkdir()
            if not mount(folder / name):
                pytest.skip("mounting a tmpfs needs root, on Linux")
            mounted.callback(subprocess.run, ["umount", "--lazy", str(folder / name)], check=True)
        yield Project(folder, run)


@contextmanager
def full(disk: Path, *, room: int = 0) -> Iterator[None]:
    """With no more than that many bytes left."""
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


TROUBLE: dict[str, Trouble] = {
    "No space left on device": full,
    "Read-only file system": read_only,
    "Permission denied": forbidden,
}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def generated(project: Project) -> Project:
    """With a dataset, for which there was no room at first."""
    with full(project.disk("data"), room=2 * PAGE):
        project.ends_in_one_line("generate", "addition", disk="data", why="No space left on device; ")
    assert contents(project.disk("data")) == {}
    project.does("generate", "addition")
    return project


@pytest.fixture(scope="module")
def trained(generated: Project) -> Project:
    """With weights, too."""
    generated.does("train", CELL)
    return generated


@pytest.fixture(scope="module")
def told(trained: Project) -> Project:
    """With a report, and all that it is made from."""
    for arguments in (("evaluate", CELL), ("analyze", CELL), ("report",)):
        trained.does(*arguments)
    return trained


@pytest.mark.parametrize("why", TROUBLE)
@pytest.mark.parametrize(
    ("arguments", "disk"),
    [
        (("generate", "addition"), "data"),
        (("train", CELL), "models"),
        (("evaluate", CELL), "reports"),
        (("report",), "reports"),
    ],
    ids=["dataset", "weights", "evaluation", "report"],
)
def test_what_was_good_stays_good_and_with_room_the_same_command_goes_on(
    told: Project, arguments: tuple[str, ...], disk: str, why: str
) -> None:
    before = contents(told.disk(disk))
    with TROUBLE[why](told.disk(disk)):
        told.ends_in_one_line(*arguments, disk=disk, why=why)
    told.does(*arguments)
    assert contents(told.disk(disk)) == before


@pytest.mark.parametrize("why", TROUBLE)
@pytest.mark.parametrize(
    ("disk", "said_once"),
    [(".checkpoints", "warning: no checkpoint can be kept in .checkpoints"), ("store", "warning: not tracked")],
)
def test_what_only_helps_costs_a_warning_and_no_training(trained: Project, disk: str, said_once: str, why: str) -> None:
    before = contents(trained.disk("models"))
    with TROUBLE[why](trained.disk(disk)):
        said = trained.does("train", CELL)
    assert said.count("warning:") == said.count(said_once) == 1, said
    assert contents(trained.disk("models")) == before


def test_with_room_the_view_is_filled_once(trained: Project) -> None:
    with full(trained.disk("store")):
        assert "not tracked" in trained.does("train", CELL)
    trained.does("track")
    assert trained.does("track") == f"{CELL}: already there\n"


@pytest.mark.parametrize("trouble", TROUBLE.values())
def test_a_study_goes_on_when_there_is_room(generated: Project, trouble: Trouble) -> None:
    database = generated.disk("reports") / "search" / "study.db"
    shutil.rmtree(database.parent, ignore_errors=True)  # one that another trouble left has come to its end
    database.parent.mkdir()
    with trouble(generated.disk("reports")):
        code, said = generated.run("search")
    assert code in (1, 2), said
    assert "Traceback" not in said, said
    assert str(database.relative_to(generated.folder)) in said.strip().splitlines()[-1]
    generated.does("search")
    assert (database.parent / "index.html").exists()
