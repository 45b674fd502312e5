"""Claims: each is a sentence of a report, stored as the name of a template and the estimates inserted into it.

Each estimate names the table, column and rows that it was read from. Sentences are templates (`sentences.py`), so every
number of the report comes from an estimate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd

from pipeline.params.config import Config

Unit = Literal[
    "share", "points", "steps", "more steps", "more", "count", "number", "ratio", "p", "logit", "flops",
    "bits", "more bits",
]  # fmt: skip
IntervalKind = Literal["", "Clopper-Pearson 95%", "t 95%", "Fieller 95%", "minimum to maximum"]
ClaimRole = Literal["", "alarm", "opening", "lead", "decided", "open", "next"]
VERDICT_TITLES: dict[ClaimRole, str] = {
    "decided": "What is decided",
    "open": "What is not decided",
    "next": "What would decide it",
}
"""Role of a claim that is a verdict -> title of the verdicts with this role, in the order of the page."""
Statistic = Literal["value", "rows", "sum", "min", "max", "median"]
RowFilter = dict[str, Any]
"""Filter of a table's rows: column -> the value that a row must have in it, or a list of allowed values."""


class Source(Config):
    """The origin of a number in a report: `statistic` of `column`, over the rows of a table that match `where`."""

    file: str
    """Path of the table, relative to `reports/`."""
    column: str
    where: dict[str, Any]
    """Filter of the table's rows: column -> required value, or list of allowed values."""
    statistic: Statistic = "value"
    """Statistic over the matching rows; `value` requires exactly one row, `rows` is the number of rows."""


class Estimate(Config):
    """A number of a report with its confidence interval and its source."""

    value: float
    low: float | None = None
    high: float | None = None
    interval: IntervalKind = ""
    """Method by which the interval from `low` to `high` was computed; empty for an estimate without an interval."""
    n: int | None = None
    """Number of runs, pairs of runs or ablations from which the estimate was computed."""
    unit: Unit
    budget: int | None = None
    """Largest number of training steps allowed to the runs from which the estimate was computed."""
    source: Source


@dataclass(frozen=True)
class Claim:
    """A sentence of the report: the template macro that words it, and the arguments of that macro."""

    macro: str
    """Name of the Jinja macro, in the section's template, that makes the sentence."""
    estimates: Mapping[str, Estimate | None]
    """Numbers in the sentence, by parameter of the macro; None leaves out the part that needs the number."""
    words: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the sentence's macro that are no numbers, such as names of ablations."""
    role: ClaimRole = ""
    """Role of the sentence on the first screen. `alarm`: makes every number suspect; `opening`: introduces the
    experiment; `lead`: answers its question; `decided`, `open`, `next`: verdicts; empty: not on the first screen."""


def read_number(table: pd.DataFrame, row_indices: Sequence[int], source: Source) -> float | None:
    """Return the number that `source` describes, from the table's rows at `row_indices`; None if all values are NaN.

    Raises:
        ValueError: the statistic is `value`, but several rows match.
    """
    if source.statistic == "rows":
        return float(len(row_indices))
    values = table[source.column].to_numpy(float, na_value=np.nan)[row_indices]
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    if source.statistic == "value":
        if len(values) > 1:
            raise ValueError(f"{source.file}: {len(values)} rows match {dict(source.where)}; expected one")
        return float(values[0])
    return float(getattr(np, source.statistic)(values))


def select_rows(table: pd.DataFrame, row_filter: RowFilter) -> pd.DataFrame:
    """Return the rows of a table that match the filter; no row if the table lacks a column of the filter."""
    if not set(row_filter) <= set(table):
        return table.head(0)
    chosen = pd.Series(True, index=table.index)
    for name, value in row_filter.items():
        chosen &= table[name].isin(value) if isinstance(value, list) else table[name] == value
    return table[chosen]


RowsByValues = dict[tuple[Any, ...], list[int]]
"""Index of a table: values of some of its columns -> indices of the rows with these values."""


class TableReader(Protocol):
    """Result tables of an experiment or search, from which the estimates of a report are read."""

    tables: Mapping[str, pd.DataFrame]
    """File name relative to `reports/` -> table with the content of that file."""

    def budget_of_rows(self, row_filter: RowFilter) -> int | None:
        """Return the largest budget of training steps among the ablations named in the filter; None if unknown.

        Estimates from tables without a column `budget` get this budget.
        """

    def row_indices(self, file: str, row_filter: RowFilter) -> Sequence[int]:
        """Return the indices of a table's rows that match the filter, in increasing order.

        A report reads thousands of numbers, so the index of a choice of columns is built once per table.
        """
        table, names = self.tables[file], tuple(row_filter)
        if not set(names) <= set(table):
            return []
        indexed_table, index = self._cached_indices.get((file, names), (None, {}))
        if indexed_table is not table:
            index = {}
            for row, values in enumerate(zip(*(table[name].tolist() for name in names), strict=True)):
                index.setdefault(values, []).append(row)
            self._cached_indices[file, names] = table, index
        wanted = product(*(value if isinstance(value, list) else [value] for value in row_filter.values()))
        return sorted(row for values in set(wanted) for row in index.get(values, []))

    @cached_property
    def _cached_indices(self) -> dict[tuple[str, tuple[str, ...]], tuple[pd.DataFrame, RowsByValues]]:
        return {}

    def read_estimate(
        self,
        file: str,
        column: str,
        unit: Unit,
        row_filter: RowFilter,
        *,
        statistic: Statistic = "value",
        interval: IntervalKind = "",
        limit_columns: tuple[str, str] | None = None,
        n_column: str | None = None,
    ) -> Estimate | None:
        """Read an estimate from the rows of a table that match the filter; None if they have no value in `column`.

        Args:
            file: name of the table in `tables`.
            interval: method by which the table's interval was computed; empty for an estimate without an interval.
            limit_columns: columns with the lower and the upper limit of the interval; by default `<column>_low` and
                `<column>_high` where the table has them, otherwise `low` and `high`.
            n_column: column with the number of runs.
        """
        source = Source(file=file, column=column, where=row_filter, statistic=statistic)
        table, indices = self.tables[file], self.row_indices(file, row_filter)

        def read_statistic(column: str | None, statistic: Statistic = statistic) -> float | None:
            if column not in table:
                return None
            return read_number(table, indices, source.model_copy(update={"column": column, "statistic": statistic}))

        if (value := read_statistic(column)) is None:
            return None
        if interval and limit_columns is None:
            limit_columns = (f"{column}_low", f"{column}_high") if f"{column}_low" in table else ("low", "high")
        low, high = map(read_statistic, limit_columns or (None, None))
        budget = read_statistic("budget", "max")
        if unit == "share" and low is not None and high is not None:
            low, high = max(low, 0.0), min(high, 1.0)  # a t interval may leave [0, 1], a share cannot
        size = read_statistic(n_column)
        return Estimate(
            value=value,
            low=low,
            high=high,
            interval=interval if low is not None else "",
            n=None if size is None else int(size),
            unit=unit,
            budget=self.budget_of_rows(row_filter) if budget is None else int(budget),
            source=source,
        )


class Record(Estimate):
    """An entry of `claims.json`: an estimate, and the name of the sentence in which the report prints it."""

    claim: str
    """Name of the section and of the sentence's macro, such as `without_mask.answer`."""
    task: str
    """Name of the task in `params.yaml`."""
    name: str
    """Name of the number within the sentence."""


class Claims(Config):
    """The content of `claims.json`: every number in the sentences of the report."""

    claims: list[Record]


def claim_records(section: str, task: str, claim: Claim) -> list[Record]:
    """Return the numbers of a claim as entries of `claims.json`."""
    return [
        Record(claim=f"{section}.{claim.macro}", task=task, name=name, **dict(estimate))
        for name, estimate in claim.estimates.items()
        if estimate is not None
    ]
