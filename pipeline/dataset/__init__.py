"""A dataset on disk: a table per split that a person can read, and `dataset.json`, which says what they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import files
from pipeline.dataset.rows import Rows, encode
from pipeline.errors import UserError
from pipeline.params import Task
from pipeline.params import task as checked_task
from pipeline.tasks import SPLITS, Problems

DESCRIPTION = "dataset.json"
DONOR_EXAMPLES = 64
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
        reference, _, _ = self.rows["train"].asked(slice(DONOR_EXAMPLES))
        return {"vocabulary": len(self.vocabulary), "length": self.length, "reference": reference}


def write(folder: Path, problems: Problems) -> None:
    """Draw the dataset and write it to `folder`, sealed.

    Raises:
        UserError: the task cannot be had (more examples than exist).
    """
    tables = problems.splits()
    about = {
        "task": problems.task.model_dump(mode="json"),
        "vocabulary": problems.vocabulary,
        "end": problems.end,
        "counts": {split: len(table) for split, table in tables.items()},
    }
    with files.replacing_folder(folder, of=problems.task.name) as new:
        for split, table in tables.items():
            files.write_csv(new / f"{split}.csv", table)
        files.write_json(new / DESCRIPTION, about)


def read(folder: Path, task: Task) -> Dataset:
    """Read the dataset in `folder`, which must be whole, unaltered, and that of `task`.

    Raises:
        UserError: it is not.
    """
    made_by = f"python -m pipeline generate {folder.name}"
    written = files.open_verified(folder, made_by=made_by, of=task.name)
    about = written.json(DESCRIPTION)
    made_for = checked_task(about["task"], f"{folder / DESCRIPTION}: task")
    for key, wanted in task:
        if (found := getattr(made_for, key, None)) != wanted:
            raise UserError(
                f"{folder}: made with {key} {found}, but params.yaml says {wanted}; make it again with `{made_by}`"
            )
    vocabulary, end = about["vocabulary"], about["end"]
    tables = {split: written.csv(f"{split}.csv", text_columns=("prompt", "answer")) for split in SPLITS}
    longest = max(int((table["prompt"] + table["answer"]).str.len().max()) for table in tables.values()) + len(end)
    rows = {split: encode(table, vocabulary, end, length=longest) for split, table in tables.items()}
    digests = {name: written.digests[name] for name in (f"{split}.csv" for split in SPLITS)}
    return Dataset(task, vocabulary, end, tables, rows, digests)
