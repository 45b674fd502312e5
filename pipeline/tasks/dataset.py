"""A dataset on disk: a table per split that a person can read, and a manifest that says what they must be."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline import files
from pipeline.params import Task, checked
from pipeline.refusal import Refused
from pipeline.tasks.addition import Addition
from pipeline.tasks.rows import Rows, encode

MADE_BY = "python -m pipeline generate"
TASKS = {"addition": Addition}
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """A dataset, read and checked. Splits are `train`, `validation` and `test`."""

    task: Task
    vocabulary: list[str]
    end: str
    tables: dict[str, pd.DataFrame]
    rows: dict[str, Rows]
    digests: dict[str, str]
    """File name -> SHA-256."""


def build(task: Task) -> Addition:
    """The task that `task` describes."""
    return TASKS[task.name](task)


def write(folder: Path, task: Task) -> None:
    """Draw the dataset of `task` and write it to `folder`; the manifest last, so that it is there only when all is.

    Raises:
        Refused: the task cannot be had (more examples than exist).
    """
    problems = build(task)
    tables = problems.splits()
    digests = {}
    for split, table in tables.items():
        path = folder / f"{split}.csv"
        files.write_csv(path, table)
        digests[path.name] = files.digest(path.read_bytes())
    manifest = {
        "task": task.model_dump(mode="json"),
        "vocabulary": problems.vocabulary,
        "end": problems.end,
        "counts": {split: len(table) for split, table in tables.items()},
        "digests": digests,
    }
    files.write_json(folder / "manifest.json", manifest)


def read(folder: Path, task: Task) -> Dataset:
    """Read the dataset in `folder`, which must be whole, unaltered, and that of `task`.

    Raises:
        Refused: it is not.
    """
    path = folder / "manifest.json"
    manifest = files.read_json(path, made_by=MADE_BY)
    try:
        made_for = checked(Task, manifest["task"], f"{path}: task")
        vocabulary, end = manifest["vocabulary"], manifest["end"]
        digests = {f"{split}.csv": str(manifest["digests"][f"{split}.csv"]) for split in SPLITS}
    except KeyError as error:
        raise Refused(f"{path}: damaged (no {error}); make it again with `{MADE_BY}`") from None
    except TypeError:
        raise Refused(f"{path}: damaged (digests is no table); make it again with `{MADE_BY}`") from None
    for key in Task.model_fields:
        if getattr(made_for, key) != getattr(task, key):
            raise Refused(
                f"{folder}: made with task.{key} {getattr(made_for, key)}, but params.yaml says "
                f"{getattr(task, key)}; make it again with `{MADE_BY}`"
            )
    problems = build(task)
    for key, found, right in (("vocabulary", vocabulary, problems.vocabulary), ("end", end, problems.end)):
        if found != right:  # the manifest has no digest of its own, and another order would be other tokens
            raise Refused(f"{path}: altered ({key} is {found!r}, not {right!r}); make it again with `{MADE_BY}`")
    tables = {}
    for split in SPLITS:
        files.verified(folder / f"{split}.csv", digests[f"{split}.csv"], made_by=MADE_BY)
        tables[split] = files.read_csv(folder / f"{split}.csv", made_by=MADE_BY, text_columns=("prompt", "answer"))
    longest = max(int((table["prompt"] + table["answer"]).str.len().max()) for table in tables.values()) + len(end)
    rows = {split: encode(table, vocabulary, end, length=longest) for split, table in tables.items()}
    return Dataset(task, vocabulary, end, tables, rows, digests)
