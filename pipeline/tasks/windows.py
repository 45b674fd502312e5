"""Real data: windows of a text or of a time series, and the token after each. The twin is exact, whatever the data: the
tokens of a window but the last stand in a random order, so that who does not see order loses nothing by it.

The parts to train on, to validate and to test on follow one another, so that no window reaches into two; of windows
that are alike, the first counts. In the twin, windows of few tokens may become alike when they are shuffled: of three
and the last, in six bins, one test prompt in nine is one to train on, too; of eight characters none was seen to be.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from io import BytesIO
from pathlib import Path
from string import ascii_lowercase
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from pipeline.errors import UserError
from pipeline.params.config import shorten, suggest
from pipeline.params.task import Series, Text
from pipeline.tasks import SPLITS

GAP = "\x1f"
"""Stands where a value is missing. No window holds one, and no text."""


@dataclass(frozen=True)
class Windows:
    """The problems of such a task. Its class says what the sequence is."""

    task: Any
    end: ClassVar[str] = ""
    place: ClassVar[str] = "token"
    places: ClassVar[Sequence[str]] = ("next token",)
    strata: ClassVar[Mapping[str, Sequence[int]]] = {}
    come_along: ClassVar[tuple[str, str]]
    """The sequence that is there without a path: a file of a package."""

    @cached_property
    def sequence(self) -> str:
        """All of it, a character per token.

        Raises:
            UserError: there is no such file, or nothing of the kind in it.
        """
        raise NotImplementedError

    @property
    def vocabulary(self) -> list[str]:
        return sorted({*self.sequence} - {GAP})

    @property
    def path(self) -> Path:
        """Of the file that holds the sequence."""
        package, file = self.come_along
        return Path(self.task.path or resources.files(package).joinpath(file))  # type: ignore[arg-type]

    def content(self) -> bytes:
        """Of the file."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise UserError(f"task.path: {shorten(self.task.path)} cannot be read ({error.strerror})") from None

    def parts(self, length: int) -> list[slice]:
        """Those of a sequence that belong to `SPLITS`: as long as the splits are large."""
        sizes = np.cumsum([getattr(self.task, f"{split}_size") for split in SPLITS])
        ends = [int(length * size) // int(sizes[-1]) for size in sizes]
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    @cached_property
    def windows(self) -> dict[str, list[str]]:
        """Split -> the different windows that its part has, each with the token after it, as they stand there."""
        seen: set[str] = set()
        parts = zip(SPLITS, self.parts(len(self.sequence)), strict=True)
        return {split: self._windows(self.sequence[part], seen) for split, part in parts}

    def splits(self) -> dict[str, pd.DataFrame]:
        generator, shuffle = (np.random.default_rng([self.task.seed, stream]) for stream in range(2))
        tables = {}
        for split, windows in self.windows.items():
            if (size := getattr(self.task, f"{split}_size")) > len(windows):
                raise UserError(
                    f"task.{split}_size: more examples asked for than exist: {size}, but that part of {self.path.name} "
                    f"has {len(windows)} different windows of {self.task.window} tokens"
                )
            chosen = [windows[place] for place in generator.permutation(len(windows))[:size]]
            if self.task.twin:
                chosen = [_shuffled(window, shuffle) for window in chosen]
            tables[split] = pd.DataFrame(
                {"prompt": [window[:-1] for window in chosen], "answer": [window[-1] for window in chosen]}
            )
        return tables

    def enumerated(self) -> None:
        """Nobody knows all there could be."""

    def _windows(self, part: str, seen: set[str]) -> list[str]:
        """Those of a part, each with the token after it, without what was `seen` before; adds to it."""
        found = []
        for start in range(len(part) - self.task.window):
            whole = part[start : start + self.task.window + 1]
            if GAP not in whole and whole[:-1] not in seen:
                seen.add(whole[:-1])
                found.append(whole)
        return found


def _shuffled(window: str, generator: np.random.Generator) -> str:
    """The same, with the tokens before the last two (what is seen last, and what follows) in a random order."""
    return "".join(generator.permutation(list(window[:-2]))) + window[-2:]


class TextProblems(Windows):
    """The task `text`. White space of any kind and length is one space, so that a window can be typed."""

    task: Text
    come_along = "numpy", "_core/_add_newdocs.py"

    @cached_property
    def sequence(self) -> str:
        try:
            text = self.content().decode()
        except UnicodeDecodeError as error:
            raise UserError(f"task.path: {shorten(self.task.path)} is not UTF-8 (byte {error.start})") from None
        if self.task.path is None:
            constants = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
            text = " ".join(value for value in constants if isinstance(value, str))
        return " ".join("".join(one if one.isprintable() else " " for one in text).split())

    @property
    def in_words(self) -> str:
        what = f"`{self.path.name}`" if self.task.path else "numpy's documentation (BSD-3-Clause)"
        return f"the next character of {what} after {_seen(self.task, 'characters')}"


class SeriesProblems(Windows):
    """The task `series`. Tokens are bins, as wide as it takes for each to be as frequent in the part to train on."""

    task: Series
    come_along = "statsmodels", "datasets/co2/co2.csv"

    @cached_property
    def sequence(self) -> str:
        values = self.values.diff() if self.task.differences else self.values
        known = values[self.parts(len(values))[0]].dropna()
        if len(known) < self.task.bins:
            raise UserError(f"task.bins: {self.task.bins}, but {self.path.name} has {len(known)} values to train on")
        edges = np.quantile(known, np.linspace(0.0, 1.0, self.task.bins + 1)[1:-1])
        places = np.searchsorted(edges, values.to_numpy(float), side="right")
        letters = np.array(list(ascii_lowercase))[np.minimum(places, self.task.bins - 1)]
        return "".join(np.where(values.isna(), GAP, letters))

    @property
    def vocabulary(self) -> list[str]:
        return list(ascii_lowercase[: self.task.bins])

    @property
    def values(self) -> pd.Series:
        """The column, with gaps where nothing stands.

        Raises:
            UserError: the file is no such table, or the column is not there or holds something else than numbers.
        """
        given = shorten(self.task.path)
        try:
            table = pd.read_csv(BytesIO(self.content()))
        except (ValueError, pd.errors.ParserError):
            raise UserError(f"task.path: {given} is no CSV table in UTF-8") from None
        numeric = [str(name) for name in table.select_dtypes("number")]
        column = "co2" if self.task.path is None else self.task.column or (numeric[0] if len(numeric) == 1 else None)
        if column is None:
            raise UserError(f"task.column: missing; which of {given}? (allowed: {', '.join(numeric) or 'none'})")
        if column not in table:
            raise UserError(f"task.column: {shorten(column)} is not in {given}{suggest(column, numeric)}")
        if column not in numeric or not np.isfinite(table[column].dropna()).all():
            raise UserError(f"task.column: {shorten(column)} of {given} holds something else than numbers")
        return table[column]

    @property
    def in_words(self) -> str:
        own = f"`{self.task.column or self.path.name}`"
        what = own if self.task.path else "weekly CO2 on Mauna Loa (public domain)"
        how = "changes of " * self.task.differences
        return f"the next of the {how}{what} in {self.task.bins} bins after {_seen(self.task, 'of them')}"


def _seen(task: Text | Series, tokens: str) -> str:
    return f"{task.window} {tokens}{', which but for the last stand in a random order' * task.twin}"
