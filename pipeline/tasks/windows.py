"""Real data: windows of a text or of a time series, and the token after each.

`shuffled` puts the tokens of each window, except the last, in a random order, drawn once. That is an exact order-free
control of any data: a model that is blind to order loses nothing by it.

The training, validation and test parts of the sequence follow one another, so that no window lies in two parts; of
equal windows only the first is used. Shuffled windows of few tokens may become equal: with three tokens and the last in
six bins, one test prompt in nine is also a training prompt; with eight characters none was.
"""

import ast
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import resources
from io import BytesIO
from pathlib import Path
from string import ascii_lowercase
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from pipeline.errors import UserError
from pipeline.params.config import shorten, suggest
from pipeline.params.task import BITS, SPLITS, Score, Task

GAP = "\x1f"
"""Stands for a missing value in a sequence. No window contains one, and no text."""


class Windows(Task):
    """Windows of `window` tokens of a long sequence, and the token after each. A subclass gives the sequence."""

    score: ClassVar[Score] = BITS
    answer_unit: ClassVar[str] = "token"
    default_file: ClassVar[tuple[str, str]]
    """The file that is used without a `path`: a package, and a path in it."""
    path: Annotated[str, Field(min_length=1)] | None = None
    """The file that holds the sequence. None: one that comes with a library."""
    window: Annotated[int, Field(ge=2, le=1024)]
    shuffled: bool = False
    """True if the tokens of each window, except the last, are in a random order."""

    @property
    def order_matters(self) -> bool:
        return not self.shuffled

    @property
    def unshuffled(self) -> Task:
        return type(self).model_validate(self.model_dump() | {"shuffled": False})

    @property
    def answer_positions(self) -> Sequence[str]:
        return ["next token"]

    @property
    def strata(self) -> Mapping[str, Sequence[int]]:
        return {}

    @property
    def vocabulary(self) -> list[str]:
        return sorted({*self.sequence} - {GAP})

    @property
    def order_words(self) -> str:
        """The order of the tokens in words; an empty text if they are not shuffled."""
        return ", which but for the last stand in a random order" if self.shuffled else ""

    @property
    def file(self) -> Path:
        """The file that holds the sequence."""
        package, name = self.default_file
        return Path(self.path or str(resources.files(package).joinpath(name)))

    def content(self) -> bytes:
        """The content of `file`.

        Raises:
            UserError: it cannot be read.
        """
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise UserError(f"task.path: {shorten(self.path)} cannot be read ({error.strerror})") from None

    @cached_property
    @abstractmethod
    def sequence(self) -> str:
        """The whole sequence, a character per token.

        Raises:
            UserError: the file cannot be read, or does not hold such a sequence.
        """

    def parts(self, length: int) -> list[slice]:
        """The parts of a sequence that belong to `SPLITS`, in proportion to their sizes."""
        sizes = np.cumsum([getattr(self, f"{split}_size") for split in SPLITS])
        ends = [int(length * size) // int(sizes[-1]) for size in sizes]
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def windows(self) -> dict[str, list[str]]:
        """Split -> the different windows of its part in their order, each with the token after it."""
        seen: set[str] = set()
        windows: dict[str, list[str]] = {}
        for split, part in zip(SPLITS, self.parts(len(self.sequence)), strict=True):
            windows[split], text = [], self.sequence[part]
            for start in range(len(text) - self.window):
                window = text[start : start + self.window + 1]
                if GAP not in window and window[:-1] not in seen:
                    seen.add(window[:-1])
                    windows[split].append(window)
        return windows

    def splits(self) -> dict[str, pd.DataFrame]:
        generator, shuffle = (np.random.default_rng([self.seed, stream]) for stream in range(2))
        tables = {}
        for split, windows in self.windows().items():
            if (size := getattr(self, f"{split}_size")) > len(windows):
                raise UserError(
                    f"task.{split}_size: more examples asked for than exist: {size}, but that part of {self.file.name} "
                    f"has {len(windows)} different windows of {self.window} tokens"
                )
            chosen = [windows[index] for index in generator.permutation(len(windows))[:size]]
            if self.shuffled:
                chosen = [_shuffle(window, shuffle) for window in chosen]
            tables[split] = pd.DataFrame(
                {"prompt": [window[:-1] for window in chosen], "answer": [window[-1] for window in chosen]}
            )
        return tables

    def enumerated(self) -> None:
        return None


def _shuffle(window: str, generator: np.random.Generator) -> str:
    """The window with the tokens before its last two (the prompt's last one and the answer) in a random order."""
    return "".join(generator.permutation(list(window[:-2]))) + window[-2:]


class Text(Windows):
    """Characters of a text. White space of any kind and length becomes one space, so that a window can be typed."""

    name: Literal["text"]
    default_file: ClassVar[tuple[str, str]] = ("numpy", "_core/_add_newdocs.py")

    @property
    def words(self) -> str:
        text = f"`{self.file.name}`" if self.path else "numpy's documentation (BSD-3-Clause)"
        return f"the next character of {text} after {self.window} characters{self.order_words}"

    @cached_property
    def sequence(self) -> str:
        try:
            text = self.content().decode()
        except UnicodeDecodeError as error:
            raise UserError(f"task.path: {shorten(self.path)} is not UTF-8 (byte {error.start})") from None
        if self.path is None:
            constants = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
            text = " ".join(value for value in constants if isinstance(value, str))
        return " ".join("".join(character if character.isprintable() else " " for character in text).split())


class Series(Windows):
    """Values of a column of a CSV file, in bins that are equally frequent in the training part."""

    name: Literal["series"]
    default_file: ClassVar[tuple[str, str]] = ("statsmodels", "datasets/co2/co2.csv")
    column: Annotated[str, Field(min_length=1)] | None = None
    """None: the only column of numbers."""
    bins: Annotated[int, Field(ge=2, le=26)] = 16
    differences: bool = True
    """True if differences of successive values are used instead of the values."""

    @model_validator(mode="after")
    def _column_of_a_file(self) -> "Series":
        if self.column is not None and self.path is None:
            raise ValueError(f"column: {shorten(self.column)} of which file? `path` is missing")
        return self

    @property
    def words(self) -> str:
        column = f"`{self.column or self.file.name}`" if self.path else "weekly CO2 on Mauna Loa (public domain)"
        values = f"changes of {column}" if self.differences else column
        return f"the next of the {values} in {self.bins} bins after {self.window} of them{self.order_words}"

    @property
    def vocabulary(self) -> list[str]:
        return list(ascii_lowercase[: self.bins])

    @cached_property
    def sequence(self) -> str:
        values = self.values().diff() if self.differences else self.values()
        training = values[self.parts(len(values))[0]].dropna()
        if len(training) < self.bins:
            raise UserError(f"task.bins: {self.bins}, but {self.file.name} has {len(training)} values to train on")
        edges = np.quantile(training, np.linspace(0.0, 1.0, self.bins + 1)[1:-1])
        bins = np.searchsorted(edges, values.to_numpy(float), side="right")
        letters = np.array(list(ascii_lowercase))[np.minimum(bins, self.bins - 1)]
        return "".join(np.where(values.isna(), GAP, letters))

    def values(self) -> pd.Series:
        """The column of numbers, with NaN where it has no value.

        Raises:
            UserError: the file is no CSV table, or has no such column of finite numbers.
        """
        path = shorten(self.path)
        try:
            table = pd.read_csv(BytesIO(self.content()))
        except (ValueError, pd.errors.ParserError):
            raise UserError(f"task.path: {path} is no CSV table in UTF-8") from None
        numeric = [str(name) for name in table.select_dtypes("number")]
        column = "co2" if self.path is None else self.column or (numeric[0] if len(numeric) == 1 else None)
        if column is None:
            raise UserError(f"task.column: missing; which of {path}? (allowed: {', '.join(numeric) or 'none'})")
        if column not in table:
            raise UserError(f"task.column: {shorten(column)} is not in {path}{suggest(column, numeric)}")
        if column not in numeric or not np.isfinite(table[column].dropna()).all():
            raise UserError(f"task.column: {shorten(column)} of {path} holds something else than numbers")
        return table[column]
