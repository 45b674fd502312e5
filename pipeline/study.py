"""Create experiments: studies, in folders of their own below `studies/`, and presets, in place of `params.yaml`.

A study uses the code, the DVC cache and the MLflow store of the project, and leaves the default experiment alone.
"""

import io
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pipeline import files
from pipeline.errors import UserError
from pipeline.params import NAME, PARAMS_FILE, round_trip_yaml
from pipeline.params.config import shorten, suggest
from pipeline.params.task import SPLITS
from pipeline.tasks.registry import parse_task, read_params
from pipeline.tasks.windows import Windows

STUDIES = Path("studies")
DVC_FILE = Path("dvc.yaml")
README = "README.md"
TO_PROJECT = "../../"
"""Path from a study's folder to the project's."""
README_TEXT = """# {name}

Before the study runs, write here and commit: what is asked, what you expect and why, and which result would decide it.
Afterwards: how long it took, and on which machine.
"""
TRAIN_SIZES = (20_000, 10_000, 5_000, 2_000, 1_000, 500, 200, 100)
"""Numbers of training examples for a study of the user's own data: the largest that the file allows is used."""
PRESETS = {path.stem: path.read_text() for path in sorted((Path(__file__).parent / "presets").glob("*.yaml"))}
"""Name of each preset -> content of its params.yaml."""


def create(name: str, *, data: Path | None = None, column: str | None = None) -> Path:
    """Create `studies/<name>/` with params.yaml, README.md and dvc.yaml, and return the folder.

    In a study that exists already only dvc.yaml is written again.

    Args:
        name: name of the study.
        data: a text or CSV file that the study is about; it is copied into the folder. Without it, the study begins
            with a copy of the project's params.yaml.
        column: column of the CSV file.

    Raises:
        UserError: this is not the project's folder, the name is not allowed, the file cannot be used, or a study of
            this name is about other data.
    """
    if not DVC_FILE.exists():
        raise UserError(f"{DVC_FILE}: no such file here; run from the project's folder")
    if not NAME.fullmatch(name):
        raise UserError(f"study: the name {shorten(name)} is not allowed; use a-z, 0-9 and '-', at most 80 of them")
    folder = STUDIES / name
    params_file = folder / PARAMS_FILE
    if not params_file.exists():
        content = _content_about(data, column) if data else round_trip_yaml().load(PARAMS_FILE.read_text())
        tracking = read_params().tracking
        content["tracking"] = {"uri": _uri_in_study(tracking.uri), "experiment": f"{tracking.experiment}-{name}"}
        buffer = io.StringIO()
        round_trip_yaml().dump(content, buffer)
        if data:
            files.write_bytes(folder / data.name, data.read_bytes())
        files.write_text(params_file, buffer.getvalue())
    elif data and not _is_about(folder, data, column):
        raise UserError(f"{folder}: is about other data than {data}; use another name, or edit its {PARAMS_FILE}")
    if not (folder / README).exists():
        files.write_text(folder / README, README_TEXT.format(name=name))
    tasks = read_params(params_file).tasks.values()
    data_files = {task.path for task in tasks if isinstance(task, Windows) and task.path}
    files.write_text(folder / DVC_FILE, dvc_file_of_study(DVC_FILE.read_text(), sorted(data_files)))
    return folder


def dvc_file_of_study(project: str, data_files: Sequence[str] = ()) -> str:
    """Content of a study's dvc.yaml, made from the project's: code is two folders up, and `generate` depends on the
    study's `data_files`."""
    moved = re.sub(r"(?m)^(\s*(?:- |template: ))(pipeline/|\.dvc/)", rf"\g<1>{TO_PROJECT}\g<2>", project)
    generate = f"        - {TO_PROJECT}pipeline/stages/generate.py\n"
    dependencies = "".join(f"        - {file}\n" for file in data_files)
    return f"# Made by `python -m pipeline study`.\n{moved.replace(generate, generate + dependencies)}"


def install_preset(name: str, *, force: bool = False) -> None:
    """Replace `params.yaml` by the preset `name`.

    Raises:
        UserError: there is no such preset; or, without `force`, params.yaml has changes that are not committed.
    """
    if name not in PRESETS:
        raise UserError(f"preset {shorten(name)}: unknown{suggest(name, PRESETS)}")
    if PARAMS_FILE.exists() and not force:
        current = PARAMS_FILE.read_text()
        if current not in PRESETS.values() and current != _committed(PARAMS_FILE):
            raise UserError(
                f"{PARAMS_FILE}: has changes that are not committed, and preset {name!r} would overwrite them; commit "
                f"or copy the file, or give --force"
            )
    files.write_text(PARAMS_FILE, PRESETS[name])


def _committed(path: Path) -> str | None:
    """Content of the file in git's last commit; None if git does not have it."""
    try:
        return subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def _is_about(folder: Path, data: Path, column: str | None) -> bool:
    """Whether the study in `folder` was created from this file, as it is now, and this column."""
    tasks = [task.model_dump() for task in read_params(folder / PARAMS_FILE).tasks.values()]
    copy = folder / data.name
    unchanged = copy.is_file() and data.is_file() and copy.read_bytes() == data.read_bytes()
    return unchanged and any((task.get("path"), task.get("column")) == (data.name, column) for task in tasks)


def _content_about(data: Path, column: str | None) -> dict[str, Any]:
    """Content of the preset `own` with `data` in place of its text, and as many examples as `data` has.

    Raises:
        UserError: the file cannot be used, or has the name of one of the study's own files.
    """
    if data.name in (str(PARAMS_FILE), str(DVC_FILE), README):
        raise UserError(f"--data: {data.name} is the name of a file of the study itself; rename yours")
    options: dict[str, Any] = {"name": "text", "window": 24}
    if data.suffix == ".csv":
        options = {"name": "series", "window": 16}
    if column is not None:
        options["column"] = column
    sizes = _largest_sizes(options | {"path": str(data)})
    content: dict[str, Any] = round_trip_yaml().load(PRESETS["own"])
    for name, task in content["tasks"].items():
        shuffled = {"shuffled": True} if task.get("shuffled") else {}
        content["tasks"][name] = options | {"path": data.name} | shuffled | sizes
    return content


def _largest_sizes(options: dict[str, Any]) -> dict[str, int]:
    """The largest splits that the data allow, with a training set of one of `TRAIN_SIZES`.

    Raises:
        UserError: the data cannot be used, or are too few for the smallest splits.
    """

    def sizes(train: int) -> dict[str, int]:
        return {"train_size": train, "validation_size": train // 10, "test_size": train // 5}

    smallest = cast(Windows, parse_task(options | sizes(min(TRAIN_SIZES))))
    smallest.splits()
    windows = smallest.windows()
    train, validation, test = (len(windows[split]) for split in SPLITS)
    return sizes(max(size for size in TRAIN_SIZES if size <= min(train, 10 * validation, 5 * test)))


def _uri_in_study(uri: str) -> str:
    """The address of the project's MLflow store as seen from a study's folder."""
    relative = re.fullmatch(r"sqlite:///([^/].*)", uri)
    return f"sqlite:///{TO_PROJECT}{relative[1]}" if relative else uri
