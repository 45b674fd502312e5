"""A further experiment, in a folder of its own below `studies/`: the same stages, code, DVC cache and MLflow store, and
nothing of the default experiment is touched."""

import re
from pathlib import Path

from pipeline import files
from pipeline.params import NAME, PARAMS_FILE, read
from pipeline.params.section import shortened
from pipeline.refusal import Refused

STUDIES = Path("studies")
PIPELINE = Path("dvc.yaml")
UP = "../../"
"""From the folder of a study to that of the project."""
ABOUT = """# {name}

What is asked, what is expected and why, and what would decide it: to be written, and committed, before the study runs.
What it costs: how long it took, on what.
"""


def make(name: str) -> Path:
    """Make `studies/<name>/`: `params.yaml`, a copy of this folder's to be changed; `README.md`, to be written; and
    `dvc.yaml`, this folder's with the code two folders up. Where they are there, only `dvc.yaml` is brought up to date.

    Raises:
        Refused: this is no project's folder, or that is no name.
    """
    if not PIPELINE.exists():
        raise Refused(f"{PIPELINE}: no such file here; run from the project's folder")
    if not NAME.fullmatch(name):
        raise Refused(f"study: the name {shortened(name)} is not allowed; use a-z, 0-9 and '-', at most 80 of them")
    folder = STUDIES / name
    if not (folder / PARAMS_FILE).exists():
        tracking = read().tracking
        text = re.sub(r"(?m)^tracking:.*\n(?:[ \t].*\n)*", "", PARAMS_FILE.read_text())
        kept = {"uri": _moved(tracking.uri), "experiment": f"{tracking.experiment}-{name}"}
        said = f"\ntracking: {{uri: {kept['uri']!r}, experiment: {kept['experiment']}}}\n"
        files.write_text(folder / PARAMS_FILE, text.rstrip("\n") + "\n" + said)
    if not (folder / "README.md").exists():
        files.write_text(folder / "README.md", ABOUT.format(name=name))
    files.write_text(folder / PIPELINE, stages(PIPELINE.read_text()))
    return folder


def stages(text: str) -> str:
    """A project's `dvc.yaml` as that of a study: what is the project's lies two folders up."""
    moved = re.sub(r"(?m)^(\s*(?:- |template: ))(pipeline/|\.dvc/)", rf"\g<1>{UP}\g<2>", text)
    return f"# Made by `python -m pipeline study`.\n{moved}"


def _moved(uri: str) -> str:
    """The same place, seen from a study: a relative path of a file leads two folders up."""
    found = re.fullmatch(r"(sqlite:///|jsonl:)([^/].*)", uri)
    return f"{found[1]}{UP}{found[2]}" if found else uri
