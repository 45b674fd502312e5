"""Tasks about real data: predict the token after a window of a text or of a time series.

`shuffled` puts the tokens of each window, except the last, in a random order, drawn once. That is an exact order-free
control of any data: an order-blind model loses nothing by it.

The training, validation and test parts of the sequence follow one another, so that no window lies in two parts; of
equal windows only the first is used. Shuffled windows of few tokens may become equal: with three tokens and the last in
six bins, one test prompt in nine is also a training prompt; with eight characters none was.
"""

import ast
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from importlib import resources
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from string import ascii_lowercase
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from pipeline.data_file import DataFile, DataFileError, read_data_file
from pipeline.errors import UserError
from pipeline.params.config import shorten_value
from pipeline.params.score import BITS, Score
from pipeline.params.task import SPLITS, Task

MISSING_VALUE = "\x1f"
"""Character that stands for a missing value in a sequence. No window contains it, and no text."""


class WindowTask(Task):
    """Base class of tasks that predict the token after `window` tokens of a long sequence, defined by a subclass."""

    score: ClassVar[Score] = BITS
    answer_unit: ClassVar[str] = "token"
    answer_position_names: ClassVar[Sequence[str]] = ["next token"]
    strata: ClassVar[Mapping[str, Sequence[int]]] = {}
    default_file: ClassVar[tuple[str, str]]
    """The file that is read if `path` is None: a Python package, and a path within the package."""
    path: Annotated[str, Field(min_length=1)] | None = None
    """Path of the file with the sequence; None for `default_file`, which comes with a library."""
    window: Annotated[int, Field(ge=2, le=1024)]
    shuffled: bool = False
    """True to put the tokens of each window, except the last, in a random order."""

    @property
    def order_matters(self) -> bool:
        return not self.shuffled

    @property
    def unshuffled(self) -> Task:
        return self.model_copy(update={"shuffled": False})

    @property
    def vocabulary(self) -> list[str]:
        return sorted({*self.sequence} - {MISSING_VALUE})

    @property
    def shuffling_clause(self) -> str:
        """The end of the description, which says that the tokens are shuffled; "" if they are not."""
        return ", which but for the last stand in a random order" if self.shuffled else ""

    @property
    def file_path(self) -> Path:
        """Path of the file with the sequence."""
        package, name = self.default_file
        return Path(self.path or str(resources.files(package).joinpath(name)))

    @cached_property
    @abstractmethod
    def sequence(self) -> str:
        """The whole sequence of tokens as text, a character per token.

        Raises:
            UserError: the file cannot be read, or does not contain a sequence.
        """

    def read_data(self, column: str | None, *, as_table: bool) -> DataFile:
        """Return the converted content of `file_path`, however people wrote it."""
        try:
            return read_data_file(self.file_path, column, as_table=as_table)
        except DataFileError as error:
            raise UserError(f"task.{error.key}: {error.problem}") from None

    def divide_into_splits(self, token_count: int) -> list[slice]:
        """Return the slice of a sequence of `token_count` tokens for each split, in proportion to the split sizes."""
        ends = [token_count * size // sum(self.sizes.values()) for size in accumulate(self.sizes.values())]
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def find_windows(self) -> dict[str, list[int]]:
        """Return, for each split, where the different windows of its part of the sequence begin."""
        seen: set[bytes] = set()  # digests, because the windows themselves may take gigabytes
        starts: dict[str, list[int]] = {split: [] for split in SPLITS}
        for split, part in zip(SPLITS, self.divide_into_splits(len(self.sequence)), strict=True):
            first = part.start
            for end in range(part.start, part.stop):
                if self.sequence[end] == MISSING_VALUE:
                    first = end + 1
                if (start := end - self.window) < first:
                    continue
                digest = blake2b(self.sequence[start:end].encode(), digest_size=16).digest()
                if digest not in seen:
                    seen.add(digest)
                    starts[split].append(start)
        return starts

    def draw_splits(self) -> dict[str, pd.DataFrame]:
        choice_generator, shuffle_generator = (np.random.default_rng([self.seed, stream]) for stream in range(2))
        tables = {}
        for split, starts in self.find_windows().items():
            if (size := self.sizes[split]) > len(starts):
                raise UserError(
                    f"task.{split}_size: {size:,}, but that part of {self.file_path.name} has only {len(starts):,} "
                    f"different windows of {self.window} tokens; allow less, or use a longer file"
                )
            chosen_starts = [starts[index] for index in choice_generator.permutation(len(starts))[:size]]
            chosen = [self.sequence[start : start + self.window + 1] for start in chosen_starts]
            if self.shuffled:  # all but the last token of the prompt, and the answer
                chosen = ["".join(shuffle_generator.permutation(list(text[:-2]))) + text[-2:] for text in chosen]
            tables[split] = pd.DataFrame([(text[:-1], text[-1]) for text in chosen], columns=["prompt", "answer"])
        return tables

    def enumerate_examples(self) -> None:
        return None


class TextWindows(WindowTask):
    """Task `text`: predict the next character of a text.

    White space of any kind and length becomes one space, so that a window can be typed.
    """

    name: Literal["text"]
    default_file: ClassVar[tuple[str, str]] = ("numpy", "_core/_add_newdocs.py")

    @property
    def description(self) -> str:
        text = f"`{self.file_path.name}`" if self.path else "numpy's documentation (BSD-3-Clause)"
        return f"the next character of {text} after {self.window} characters{self.shuffling_clause}"

    @cached_property
    def sequence(self) -> str:
        text = self.read_data(None, as_table=False).content.decode()
        if self.path is None:
            constants = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
            text = " ".join(value for value in constants if isinstance(value, str))
        return " ".join("".join(character if character.isprintable() else " " for character in text).split())


class SeriesWindows(WindowTask):
    """Task `series`: predict the bin of the next value of a time series, read from a column of a CSV file.

    The bins are equally frequent in the training part of the series.
    """

    name: Literal["series"]
    default_file: ClassVar[tuple[str, str]] = ("statsmodels", "datasets/co2/co2.csv")
    column: Annotated[str, Field(min_length=1)] | None = None
    """Column of the CSV file with the values; None for the only column of numbers."""
    bins: Annotated[int, Field(ge=2, le=26)] = 16
    differences: bool = True
    """True to use the differences of successive values instead of the values."""

    @model_validator(mode="after")
    def _check_column_has_path(self) -> "SeriesWindows":
        if self.column is not None and self.path is None:
            raise ValueError(f"column: {shorten_value(self.column)} of which file? `path` is missing")
        return self

    @property
    def description(self) -> str:
        column = f"column `{self.column}` of " if self.column else ""
        source = f"{column}`{self.file_path.name}`" if self.path else "weekly CO2 on Mauna Loa (public domain)"
        kind = "change" if self.differences else "value"
        values = f"the {self.window} {kind}s before it{self.shuffling_clause}"
        return f"which of {self.bins} equally frequent bins has the next {kind} of {source}, from {values}"

    @property
    def vocabulary(self) -> list[str]:
        return list(ascii_lowercase[: self.bins])

    @cached_property
    def sequence(self) -> str:
        values = self.read_values().diff() if self.differences else self.read_values()
        training = values[self.divide_into_splits(len(values))[0]].dropna()
        if len(training) < self.bins:
            raise UserError(f"task.bins: {self.bins}, but {self.file_path.name} has {len(training)} values to train on")
        edges = np.quantile(training, np.linspace(0.0, 1.0, self.bins + 1)[1:-1])
        bins = np.searchsorted(edges, values, side="right")
        return "".join(np.where(values.isna(), MISSING_VALUE, np.array(self.vocabulary)[bins]))

    def read_values(self) -> pd.Series:
        """Return the column of numbers; NaN marks missing values."""
        data = self.read_data("co2" if self.path is None else self.column, as_table=True)
        return pd.read_csv(BytesIO(data.content))[data.column]
