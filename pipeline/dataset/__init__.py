"""A dataset on disk: a table per split that a person can read, and a manifest that says what they must be."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import files
from pipeline.dataset.rows import Rows, encode
from pipeline.params import Task
from pipeline.params import task as checked_task
from pipeline.refusal import Refused
from pipeline.tasks import SPLITS, Problems

REFERENCE_ROWS = 64
"""Enough for their mean, few beside the rows that are evaluated."""


@dataclass(frozen=True)
class Dataset:
    """A dataset, read and checked."""

    task: Task
    vocabulary: list[str]
    end: str
    tables: dict[str, pd.DataFrame]
    """Split -> problems as text."""
    rows: dict[str, Rows]
    """Split -> the same as tokens."""
    digests: dict[str, str]
    """File name -> SHA-256."""

    @property
    def length(self) -> int:
        """Tokens that a model reads of a row: all but the last."""
        return self.rows["train"].tokens.shape[1] - 1

    @property
    def inputs(self) -> dict[str, Any]:
        """What a transformer must know of its inputs: `vocabulary`, how many tokens there are; `length`; `reference`,
        the first `REFERENCE_ROWS` rows that are trained on."""
        rows = self.rows["train"].tokens[:REFERENCE_ROWS, :-1]
        return {"vocabulary": len(self.vocabulary), "length": self.length, "reference": rows.astype(np.int64)}


def write(folder: Path, problems: Problems) -> None:
    """Draw the dataset and write it to `folder`; the manifest last, so that it is there only when all is.

    Raises:
        Refused: the task cannot be had (more examples than exist).
    """
    tables = problems.splits()
    digests = {}
    for split, table in tables.items():
        path = folder / f"{split}.csv"
        files.write_csv(path, table)
        digests[path.name] = files.digest(path.read_bytes())
    manifest = {
        "task": problems.task.model_dump(mode="json"),
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
    made_by = f"python -m pipeline generate {folder.name}"
    path = folder / "manifest.json"
    manifest = files.read_json(path, made_by=made_by)
    try:
        made_for = checked_task(manifest["task"], f"{path}: task")
        vocabulary, end = manifest["vocabulary"], manifest["end"]
        digests = {f"{split}.csv": str(manifest["digests"][f"{split}.csv"]) for split in SPLITS}
    except KeyError as error:
        raise Refused(f"{path}: damaged (no {error}); make it again with `{made_by}`") from None
    except TypeError:
        raise Refused(f"{path}: damaged (digests is no table); make it again with `{made_by}`") from None
    for key, wanted in task:
        if (found := getattr(made_for, key, None)) != wanted:
            raise Refused(
                f"{folder}: made with {key} {found}, but params.yaml says {wanted}; make it again with `{made_by}`"
            )
    tables = {}
    for split in SPLITS:
        files.verified(folder / f"{split}.csv", digests[f"{split}.csv"], made_by=made_by)
        tables[split] = files.read_csv(folder / f"{split}.csv", made_by=made_by, text_columns=("prompt", "answer"))
    if not (isinstance(vocabulary, list) and all(isinstance(one, str) for one in [*vocabulary, end])):
        raise Refused(f"{path}: damaged (the vocabulary is no list of characters); make it again with `{made_by}`")
    texts = pd.concat([table["prompt"] + table["answer"] for table in tables.values()])
    if vocabulary != sorted(set(vocabulary).union(*texts, end)):  # in another order they would be other tokens
        raise Refused(
            f"{path}: altered (the vocabulary is not the characters in use, sorted); make it again with `{made_by}`"
        )
    longest = int(texts.str.len().max()) + len(end)
    rows = {split: encode(table, vocabulary, end, length=longest) for split, table in tables.items()}
    return Dataset(task, vocabulary, end, tables, rows, digests)
