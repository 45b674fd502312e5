"""Create a study in its own folder below `studies/`, or replace `params.yaml` by a ready-made experiment (a preset).

A study uses the code, the DVC cache and the MLflow store of the project, and does not touch the default experiment.
"""

import io
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pipeline import files
from pipeline.errors import UserError
from pipeline.params import NAME_PATTERN, PARAMS_FILE, round_trip_yaml
from pipeline.params.config import shorten_value, suggest_names
from pipeline.params.task import SPLITS
from pipeline.tasks.registry import parse_task, read_params
from pipeline.tasks.windows import WindowTask

STUDIES_FOLDER = Path("studies")
DVC_FILE = Path("dvc.yaml")
README_FILE = "README.md"
PATH_TO_PROJECT = "../../"
"""Relative path from the folder of a study to the folder of the project."""
README_TEMPLATE = """# {name}

Before the study runs, write here and commit: what is asked, what you expect and why, and which result would decide it.
Afterwards: how long it took, and on which machine.
"""
ALLOWED_TRAIN_SIZES = (20_000, 10_000, 5_000, 2_000, 1_000, 500, 200, 100)
"""Numbers of training examples in a study of a text or CSV file; the largest that the file allows is used."""
PRESET_CONTENTS = {path.stem: path.read_text() for path in sorted((Path(__file__).parent / "presets").glob("*.yaml"))}
"""Name of a ready-made experiment -> text of the params.yaml that defines it."""


def create_study(name: str, *, data: Path | None = None, column: str | None = None) -> Path:
    """Create a study: the folder `studies/<name>/` with params.yaml, README.md and dvc.yaml. Return the folder.

    If the study exists already, only its dvc.yaml is written again.

    Args:
        name: name of the study.
        data: text or CSV file whose token order is studied; the file is copied into the folder. Without a file, the
            study begins with a copy of the project's params.yaml.
        column: column of the CSV file that holds the time series.

    Raises:
        UserError: the current folder is not the project's, the name is not allowed, the file cannot be used, or the
            study exists with other data.
    """
    if not DVC_FILE.exists():
        raise UserError(f"{DVC_FILE}: no such file here; run from the project's folder")
    if not NAME_PATTERN.fullmatch(name):
        raise UserError(
            f"study: the name {shorten_value(name)} is not allowed; use a-z, 0-9 and '-', at most 80 of them"
        )
    folder = STUDIES_FOLDER / name
    params_file = folder / PARAMS_FILE
    if not params_file.exists():
        content = _build_params_for_data(data, column) if data else round_trip_yaml().load(PARAMS_FILE.read_text())
        tracking = read_params().tracking
        content["tracking"] = {"uri": _build_uri_for_study(tracking.uri), "experiment": f"{tracking.experiment}-{name}"}
        buffer = io.StringIO()
        round_trip_yaml().dump(content, buffer)
        if data:
            files.write_bytes(folder / data.name, data.read_bytes())
        files.write_text(params_file, buffer.getvalue())
    elif data and not _has_same_data(folder, data, column):
        raise UserError(f"{folder}: is about other data than {data}; use another name, or edit its {PARAMS_FILE}")
    if not (folder / README_FILE).exists():
        files.write_text(folder / README_FILE, README_TEMPLATE.format(name=name))
    tasks = read_params(params_file).tasks.values()
    data_files = {task.path for task in tasks if isinstance(task, WindowTask) and task.path}
    files.write_text(folder / DVC_FILE, build_dvc_file_for_study(DVC_FILE.read_text(), sorted(data_files)))
    return folder


def build_dvc_file_for_study(project_dvc_text: str, data_files: Sequence[str] = ()) -> str:
    """Return the text of a study's dvc.yaml, given the text of the project's dvc.yaml.

    Paths of code lead two folders up, and the stage `generate` depends on the study's `data_files`.
    """
    moved = re.sub(r"(?m)^(\s*(?:- |template: ))(pipeline/|\.dvc/)", rf"\g<1>{PATH_TO_PROJECT}\g<2>", project_dvc_text)
    generate = f"        - {PATH_TO_PROJECT}pipeline/stages/generate.py\n"
    dependencies = "".join(f"        - {file}\n" for file in data_files)
    return f"# Made by `python -m pipeline study`.\n{moved.replace(generate, generate + dependencies)}"


def install_preset(name: str, *, force: bool = False) -> None:
    """Replace `params.yaml` by the ready-made experiment `name`.

    Raises:
        UserError: no preset has this name; or params.yaml has uncommitted changes and `force` is false.
    """
    if name not in PRESET_CONTENTS:
        raise UserError(f"preset {shorten_value(name)}: unknown{suggest_names(name, PRESET_CONTENTS)}")
    if PARAMS_FILE.exists() and not force:
        current = PARAMS_FILE.read_text()
        if current not in PRESET_CONTENTS.values() and current != _read_committed_text(PARAMS_FILE):
            raise UserError(
                f"{PARAMS_FILE}: has changes that are not committed, and preset {name!r} would overwrite them; commit "
                f"or copy the file, or give --force"
            )
    files.write_text(PARAMS_FILE, PRESET_CONTENTS[name])


def _read_committed_text(path: Path) -> str | None:
    """Return the text of a file in git's last commit; None if the commit does not contain the file."""
    try:
        return subprocess.run(["git", "show", f"HEAD:./{path}"], capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def _has_same_data(folder: Path, data: Path, column: str | None) -> bool:
    """Return True if the study in `folder` was created with this column of the file `data`, and `data` is unchanged."""
    tasks = [task.model_dump() for task in read_params(folder / PARAMS_FILE).tasks.values()]
    copy = folder / data.name
    unchanged = copy.is_file() and data.is_file() and copy.read_bytes() == data.read_bytes()
    return unchanged and any((task.get("path"), task.get("column")) == (data.name, column) for task in tasks)


def _build_params_for_data(data: Path, column: str | None) -> dict[str, Any]:
    """Return the content of a params.yaml for an experiment on the file `data`, made from the preset `own`.

    Raises:
        UserError: the file cannot be used, or is named like a file that every study has.
    """
    if data.name in (str(PARAMS_FILE), str(DVC_FILE), README_FILE):
        raise UserError(f"--data: {data.name} is the name of a file of the study itself; rename yours")
    options: dict[str, Any] = {"name": "text", "window": 24}
    if data.suffix == ".csv":
        options = {"name": "series", "window": 16}
    if column is not None:
        options["column"] = column
    sizes = _find_largest_split_sizes(options | {"path": str(data)})
    content: dict[str, Any] = round_trip_yaml().load(PRESET_CONTENTS["own"])
    for name, task in content["tasks"].items():
        shuffled = {"shuffled": True} if task.get("shuffled") else {}
        content["tasks"][name] = options | {"path": data.name} | shuffled | sizes
    return content


def _find_largest_split_sizes(options: dict[str, Any]) -> dict[str, int]:
    """Return the largest split sizes that the data allow, with a training split of one of `ALLOWED_TRAIN_SIZES`.

    Raises:
        UserError: the data cannot be used, or are too few for the smallest splits.
    """

    def split_sizes(train: int) -> dict[str, int]:
        return {"train_size": train, "validation_size": train // 10, "test_size": train // 5}

    smallest = cast(WindowTask, parse_task(options | split_sizes(min(ALLOWED_TRAIN_SIZES))))
    smallest.draw_splits()
    windows = smallest.list_windows()
    train, validation, test = (len(windows[split]) for split in SPLITS)
    return split_sizes(max(size for size in ALLOWED_TRAIN_SIZES if size <= min(train, 10 * validation, 5 * test)))


def _build_uri_for_study(uri: str) -> str:
    """Return the address of the project's MLflow store for use in a study: a relative path leads two folders up."""
    relative = re.fullmatch(r"sqlite:///([^/].*)", uri)
    return f"sqlite:///{PATH_TO_PROJECT}{relative[1]}" if relative else uri
