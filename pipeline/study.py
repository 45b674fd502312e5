"""A further experiment, in a folder of its own below `studies/`: the same stages, code, DVC cache and MLflow store, and
nothing of the default experiment is touched."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pipeline import files
from pipeline.errors import UserError
from pipeline.params import NAME, PARAMS_FILE, read, round_trip_yaml
from pipeline.params import task as section
from pipeline.params.config import shorten
from pipeline.presets import PRESETS
from pipeline.tasks import SPLITS
from pipeline.tasks.catalogue import problems
from pipeline.tasks.windows import Windows

STUDIES = Path("studies")
PIPELINE = Path("dvc.yaml")
READ_ME = "README.md"
OWN = (str(PARAMS_FILE), str(PIPELINE), READ_ME)
UP = "../../"
"""From the folder of a study to that of the project."""
ABOUT = """# {name}

What is asked, what is expected and why, and what would decide it: to be written, and committed, before the study runs.
What it costs: how long it took, on what.
"""
TRAIN_SIZES = (20_000, 10_000, 5_000, 2_000, 1_000, 500, 200, 100)
"""Windows of somebody's own data: as many as there are of these."""


def make(name: str, *, data: Path | None = None, column: str | None = None) -> Path:
    """Make `studies/<name>/`: `params.yaml`, a copy of this folder's to be changed; `README.md`, to be written; and
    `dvc.yaml`, this folder's with the code two folders up. Where they are there, only `dvc.yaml` is brought up to date.
    With `data`, a text or a CSV file (and which `column` of it), the study asks what order is worth there; the file is
    copied.

    Raises:
        UserError: this is no project's folder, that is no name, the data will not do, or the study is about others.
    """
    if not PIPELINE.exists():
        raise UserError(f"{PIPELINE}: no such file here; run from the project's folder")
    if not NAME.fullmatch(name):
        raise UserError(f"study: the name {shorten(name)} is not allowed; use a-z, 0-9 and '-', at most 80 of them")
    folder = STUDIES / name
    if data is not None and (folder / PARAMS_FILE).exists() and not _is_about(folder, data, column):
        raise UserError(
            f"{folder}: is about something else than {data}; take another name, or change its {PARAMS_FILE}"
        )
    if not (folder / PARAMS_FILE).exists():
        tracking = read().tracking
        content = round_trip_yaml().load(PARAMS_FILE.read_text()) if data is None else _of_data(data, column)
        content["tracking"] = {"uri": _moved(tracking.uri), "experiment": f"{tracking.experiment}-{name}"}
        made = io.StringIO()
        round_trip_yaml().dump(content, made)
        if data is not None:
            files.write_bytes(folder / data.name, data.read_bytes())
        files.write_text(folder / PARAMS_FILE, made.getvalue())
    if not (folder / READ_ME).exists():
        files.write_text(folder / READ_ME, ABOUT.format(name=name))
    own = {task["path"] for task in read(folder / PARAMS_FILE).tasks.values() if task.get("path")}
    files.write_text(folder / PIPELINE, stages(PIPELINE.read_text(), sorted(own)))
    return folder


def _is_about(folder: Path, data: Path, column: str | None) -> bool:
    """Whether the study was made of this file as it is now."""
    asked = {(task.get("path"), task.get("column")) for task in read(folder / PARAMS_FILE).tasks.values()}
    kept = folder / data.name
    same = kept.is_file() and data.is_file() and kept.read_bytes() == data.read_bytes()
    return same and (data.name, column) in asked


def stages(text: str, data: Sequence[str] = ()) -> str:
    """A project's `dvc.yaml` as that of a study: what is the project's lies two folders up, and who draws the datasets
    depends on these files of its own."""
    moved = re.sub(r"(?m)^(\s*(?:- |template: ))(pipeline/|\.dvc/)", rf"\g<1>{UP}\g<2>", text)
    code = f"        - {UP}pipeline/stages/generate.py\n"
    own = "".join(f"        - {file}\n" for file in data)
    return f"# Made by `python -m pipeline study`.\n{moved.replace(code, code + own)}"


def _of_data(path: Path, column: str | None) -> dict[str, Any]:
    """The preset for data of one's own, with this file in it, and as many windows as it has.

    Raises:
        UserError: the file will not do, or has the name of one of a study's own.
    """
    if path.name in OWN:
        raise UserError(f"--data: {path.name} is what a file of the study itself is called; rename yours")
    content: dict[str, Any] = round_trip_yaml().load(PRESETS["own"])
    kind = {"name": "series", "window": 16} if path.suffix == ".csv" else {"name": "text", "window": 24}
    kind |= {} if column is None else {"column": column}
    sizes = _sizes(kind | {"path": str(path)})
    for task in content["tasks"].values():
        twin = {"twin": True} if task.get("twin") else {}
        task.clear()
        task.update(kind | {"path": path.name} | twin | sizes)
    return content


def _sizes(kind: dict[str, Any]) -> dict[str, int]:
    """How many windows to draw: of `TRAIN_SIZES` the most that there are. (Whatever their size, the splits stand in the
    same proportion, and so their parts are the same.)

    Raises:
        UserError: there are not even a few, or the file will not do at all.
    """
    choices = [{"train_size": n, "validation_size": n // 10, "test_size": n // 5} for n in TRAIN_SIZES]
    windows = cast(Windows, problems(section(kind | choices[0], "task"))).windows
    fitting = [sizes for sizes in choices if all(len(windows[s]) >= sizes[f"{s}_size"] for s in SPLITS)]
    if not fitting:
        problems(section(kind | choices[-1], "task")).splits()  # refuses them, in its own words
    return fitting[0]


def _moved(uri: str) -> str:
    """The same place, seen from a study: a relative path of a file leads two folders up."""
    found = re.fullmatch(r"(sqlite:///|jsonl:)([^/].*)", uri)
    return f"{found[1]}{UP}{found[2]}" if found else uri
