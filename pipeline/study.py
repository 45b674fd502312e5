"""Create a study in its own folder below `studies/`.

A study uses the code, the DVC cache and the MLflow store of the project, and does not touch the default experiment.
"""

import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter

from pipeline import files
from pipeline.data_file import DataFile, converted_name, is_table, read_data_file
from pipeline.errors import UserError
from pipeline.params import PARAMS_FILE, Params, parse, round_trip_yaml
from pipeline.params.config import Name, shorten_value, suggest_names
from pipeline.tasks.registry import parse_task, read_params
from pipeline.tasks.windows import WindowTask

DVC_FILE = Path("dvc.yaml")
README_FILE, ANSWERS_FILE = "README.md", "answers.md.j2"
RESERVED_NAMES = {
    *(str(PARAMS_FILE), str(DVC_FILE), README_FILE, f"{README_FILE}.j2", ANSWERS_FILE, "dvc.lock", ".gitignore"),
    *("data", "models", "reports", ".repro", ".checkpoints"),
}
"""Files and folders that a study has itself; a file of the user's must have another name, in any case of letters."""
PATH_TO_PROJECT = "../../"
"""Relative path from the folder of a study to the folder of the project."""
README_TEMPLATE = """# {name}

Before the study runs, write here and commit: what is asked, what you expect and why, and which result would decide it.
Afterwards: how long it took, and on which machine.
"""
ALLOWED_TRAIN_SIZES = (20_000, 10_000, 5_000, 2_000, 1_000, 500, 200, 100)
"""Numbers of training examples in a study of a text or CSV file; the largest that the file allows is used."""
PRESET_FOLDER = Path(__file__).parent / "presets"
PRESET_CONTENTS = {path.stem: path.read_text("utf-8") for path in sorted(PRESET_FOLDER.glob("*.yaml"))}
"""Name of a ready-made experiment -> text of the params.yaml that defines it."""
PRESET_ANSWERS = {path.name.partition(".")[0]: path.read_text("utf-8") for path in PRESET_FOLDER.glob("*.md.j2")}
"""Name of a ready-made experiment -> text of its answers.md.j2, if it has one."""


def create_study(name: str, *, data: Path | None = None, column: str | None = None, preset: str | None = None) -> Path:
    """Create a study: the folder `studies/<name>/` with params.yaml, README.md, answers.md.j2 and dvc.yaml.

    Return the folder. The report opens with what people write in answers.md.j2, which is empty at first, or that of
    the preset.

    If the study exists already, only its dvc.yaml is written again.

    Args:
        data: text or table whose token order is studied. The folder gets a copy: in UTF-8, and a table as plain CSV.
            How a table was understood is printed to stderr.
        column: column of the table that holds the time series.
        preset: name of the ready-made experiment that the study begins with (default: `name`, if it is one). Without
            data and preset, the study begins with a copy of the project's params.yaml.

    Raises:
        UserError: the folder is not the project's, a name or the file cannot be used, the study has other data, or it
            exists and a preset was given.
    """
    if preset and preset not in PRESET_CONTENTS:
        raise UserError(f"--preset: {shorten_value(preset)}: unknown{suggest_names(preset, PRESET_CONTENTS)}")
    if preset and data:
        raise UserError(f"--preset {preset}: a study of --data {data} cannot begin with a preset; give one of the two")
    if not DVC_FILE.exists():
        raise UserError(f"{DVC_FILE}: no such file here; run from the project's folder")
    parse(TypeAdapter[str](Name), name, "study")
    folder = Path("studies") / name
    as_table = data is not None and is_table(data, column)
    if data and converted_name(data, as_table=as_table).lower() in {reserved.lower() for reserved in RESERVED_NAMES}:
        names = ", ".join(sorted(RESERVED_NAMES))
        raise UserError(f"--data: {data.name} is a name that a study uses itself; rename yours (not allowed: {names})")
    data_file = read_data_file(data, column, as_table=as_table) if data else None
    if data_file and data_file.summary:
        print(data_file.summary, file=sys.stderr)
    if preset and (folder / PARAMS_FILE).exists():
        raise UserError(f"--preset {preset}: {folder} exists already; use another name, or edit its {PARAMS_FILE}")
    if not (folder / PARAMS_FILE).exists():
        tracking, buffer = read_params().tracking, io.StringIO()
        if data_file:
            content = _build_params_for_data(data_file)
        elif ready_made := PRESET_CONTENTS.get(preset or name):
            content = round_trip_yaml().load(ready_made)
        else:
            content = _copy_project_params()
        uri = re.sub(r"^sqlite:///(?=[^/])", f"sqlite:///{PATH_TO_PROJECT}", tracking.uri)  # a relative path
        content["tracking"] = {"uri": uri, "experiment": f"{tracking.experiment}-{name}"}
        round_trip_yaml().dump(content, buffer)
        if data_file:
            files.write_bytes(folder / data_file.name, data_file.content)
        files.write_text(folder / PARAMS_FILE, buffer.getvalue())
    params = read_params(folder / PARAMS_FILE)
    if data_file and not _has_data(params, folder, data_file):
        raise UserError(f"{folder}: is about other data than {data}; use another name, or edit its {PARAMS_FILE}")
    if not (folder / README_FILE).exists():
        files.write_text(folder / README_FILE, README_TEMPLATE.format(name=name))
    if not (folder / ANSWERS_FILE).exists():
        files.write_text(folder / ANSWERS_FILE, PRESET_ANSWERS.get("own" if data else preset or name, ""))
    files.write_text(folder / DVC_FILE, _build_dvc_file(params))
    return folder


def _has_data(params: Params, folder: Path, data: DataFile) -> bool:
    """Return True if a task of the study in `folder` reads the studied column of a file that equals `data`."""
    if not (copy := folder / data.name).is_file() or copy.read_bytes() != data.content:
        return False
    tasks = [task.model_dump() for task in params.tasks.values()]
    columns = (data.column or None, None)  # None: the only column of numbers
    return any(task.get("path") == data.name and task.get("column") in columns for task in tasks)


def _build_dvc_file(params: Params) -> str:
    """Return the dvc.yaml of a study: the project's, where code lies two folders up and `generate` needs the data."""
    code = r"(?m)^(\s*(?:- |template: ))(?=pipeline/|\.dvc/)"
    text = re.sub(code, rf"\g<1>{PATH_TO_PROJECT}", DVC_FILE.read_text("utf-8"))
    data_files = {task.path for task in params.tasks.values() if isinstance(task, WindowTask) and task.path}
    generate = f"        - {PATH_TO_PROJECT}pipeline/stages/generate.py\n"
    dependencies = "".join(f"        - {_quote_for_dvc(file)}\n" for file in sorted(data_files))
    return f"# Made by `python -m pipeline study`.\n{text.replace(generate, generate + dependencies)}"


def _quote_for_dvc(path: str) -> str:
    """Return a path as a value of dvc.yaml, whatever its characters: JSON is YAML, and DVC would replace `${...}`."""
    return json.dumps(path.replace("${", r"\${"), ensure_ascii=False)


def _copy_project_params() -> Any:
    """Return the content of the project's params.yaml, where paths of files lead out of the folder of a study."""
    content = round_trip_yaml().load(PARAMS_FILE)
    content.yaml_set_start_comment("A copy of the project's experiment, to be edited. Settings: docs/experiment.md")
    for task in content["tasks"].values():
        if task.get("path"):
            task["path"] = os.path.join(PATH_TO_PROJECT, task["path"])
    return content


def _build_params_for_data(data: DataFile) -> dict[str, Any]:
    """Return the content of a params.yaml for an experiment on the file `data`, made from the preset `own`.

    The task gets the largest splits that the data allow, with one of `ALLOWED_TRAIN_SIZES`.
    """
    options: dict[str, Any] = {"name": "text", "window": 24}
    if data.column:
        options = {"name": "series", "window": 16, "column": data.column}

    def split_sizes(train: int) -> dict[str, int]:
        return {"train_size": train, "validation_size": train // 10, "test_size": train // 5}

    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / data.name).write_bytes(data.content)
        smallest = cast(WindowTask, parse_task(options | {"path": str(path)} | split_sizes(min(ALLOWED_TRAIN_SIZES))))
        smallest.draw_splits()  # refuses data that are too few
    train, validation, test = map(len, smallest.find_windows().values())
    train = max(size for size in ALLOWED_TRAIN_SIZES if size <= min(train, 10 * validation, 5 * test))
    content: dict[str, Any] = round_trip_yaml().load(PRESET_CONTENTS["own"])
    for name, task in content["tasks"].items():
        shuffled = {"shuffled": True} if task.get("shuffled") else {}
        content["tasks"][name] = options | {"path": data.name} | shuffled | split_sizes(train)
    return content
