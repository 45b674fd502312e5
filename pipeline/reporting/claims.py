"""Claims: the sentences of a report, as the name of a template and the estimates that it shows.

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
"""The roles that are verdicts, in the order of the page, with their titles."""
Statistic = Literal["value", "rows", "sum", "min", "max", "median"]
RowFilter = dict[str, Any]
"""Column -> the value that a row must have there; for a list, any of its values."""


class Source(Config):
    """The origin of a number: `statistic` of `column`, over the rows of a table that match `where`."""

    file: str
    """Path of the table, relative to `reports/`."""
    column: str
    where: dict[str, Any]
    """The filter of the rows (see `RowFilter`)."""
    statistic: Statistic = "value"
    """`value` requires exactly one row; `rows` is the number of rows."""


class Estimate(Config):
    """A number with its uncertainty and its source."""

    value: float
    low: float | None = None
    high: float | None = None
    interval: IntervalKind = ""
    """The method that gave `low` and `high`; empty without an interval."""
    n: int | None = None
    """Number of runs, pairs of runs or ablations behind the value."""
    unit: Unit
    budget: int | None = None
    """The most training steps that a run behind the value could take."""
    source: Source


@dataclass(frozen=True)
class Claim:
    """A sentence of the report, not yet in words."""

    macro: str
    """Name of the macro in the section's template."""
    estimates: Mapping[str, Estimate | None]
    """Its numbers, by the macro's parameters; None leaves out the part of the sentence that needs the number."""
    words: Mapping[str, Any] = field(default_factory=dict)
    """The macro's other parameters, such as names of ablations."""
    role: ClaimRole = ""
    """Place on the first screen. `alarm`: makes every number suspect; `opening`: introduces the experiment; `lead`:
    answers its question; `decided`, `open`, `next`: verdicts; empty: not on the first screen."""


def read_number(table: pd.DataFrame, row_indices: Sequence[int], source: Source) -> float | None:
    """Return the number that `source` describes, from the rows at `indices`; None if they have no value.

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


def select_rows(table: pd.DataFrame, where: RowFilter) -> pd.DataFrame:
    """Return the rows that match the filter; none if the table lacks one of its columns."""
    if not set(where) <= set(table):
        return table.head(0)
    chosen = pd.Series(True, index=table.index)
    for name, value in where.items():
        chosen &= table[name].isin(value) if isinstance(value, list) else table[name] == value
    return table[chosen]


RowsByValues = dict[tuple[Any, ...], list[int]]
"""Values of some columns -> the numbers of the rows that have them."""


class TableReader(Protocol):
    """A set of result tables from which estimates are read."""

    tables: Mapping[str, pd.DataFrame]
    """Path relative to `reports/` -> the table that is written there."""

    def budget(self, where: RowFilter) -> int | None:
        """Return the most training steps of the runs behind these rows; None if unknown.

        It is used for tables without a column `budget`.
        """

    def row_indices(self, file: str, where: RowFilter) -> Sequence[int]:
        """Return the numbers of the rows that match the filter, in order.

        A report reads thousands of numbers, so the index of a choice of columns is built once per table.
        """
        table, names = self.tables[file], tuple(where)
        if not set(names) <= set(table):
            return []
        indexed_table, index = self._cached_indices.get((file, names), (None, {}))
        if indexed_table is not table:
            index = {}
            for row, values in enumerate(zip(*(table[name].tolist() for name in names), strict=True)):
                index.setdefault(values, []).append(row)
            self._cached_indices[file, names] = table, index
        wanted = product(*(value if isinstance(value, list) else [value] for value in where.values()))
        return sorted(row for values in set(wanted) for row in index.get(values, []))

    @cached_property
    def _cached_indices(self) -> dict[tuple[str, tuple[str, ...]], tuple[pd.DataFrame, RowsByValues]]:
        return {}

    def read_estimate(
        self,
        file: str,
        column: str,
        unit: Unit,
        where: RowFilter,
        *,
        statistic: Statistic = "value",
        interval: IntervalKind = "",
        limits: tuple[str, str] | None = None,
        n: str | None = None,
    ) -> Estimate | None:
        """Return an estimate from the rows that match the filter; None if they have no value in `column`.

        Args:
            interval: how the interval was computed; empty for none.
            limits: columns of its two ends; by default `<column>_low` and `<column>_high` where the table has them,
                otherwise `low` and `high`.
            n: column that holds the number of runs.
        """
        source = Source(file=file, column=column, where=where, statistic=statistic)
        table, indices = self.tables[file], self.row_indices(file, where)

        def read(column: str | None, statistic: Statistic = statistic) -> float | None:
            if column not in table:
                return None
            return read_number(table, indices, source.model_copy(update={"column": column, "statistic": statistic}))

        if (value := read(column)) is None:
            return None
        if interval and limits is None:
            limits = (f"{column}_low", f"{column}_high") if f"{column}_low" in table else ("low", "high")
        low, high = map(read, limits or (None, None))
        budget = read("budget", "max")
        if unit == "share" and low is not None and high is not None:
            low, high = max(low, 0.0), min(high, 1.0)  # a t interval may leave [0, 1], a share cannot
        size = read(n)
        return Estimate(
            value=value,
            low=low,
            high=high,
            interval=interval if low is not None else "",
            n=None if size is None else int(size),
            unit=unit,
            budget=self.budget(where) if budget is None else int(budget),
            source=source,
        )


class Record(Estimate):
    """An estimate as a row of `claims.json`, with the sentence that shows it."""

    claim: str
    """Section and sentence, such as `without_mask.answer`."""
    task: str
    """Name of the task in `params.yaml`."""
    name: str
    """Name of the number within the sentence."""


class Claims(Config):
    """The content of `claims.json`: every number that a sentence of the report shows."""

    claims: list[Record]


def claim_records(section: str, task: str, claim: Claim) -> list[Record]:
    """Return the numbers of a claim as rows of `claims.json`."""
    return [
        Record(claim=f"{section}.{claim.macro}", task=task, name=name, **dict(estimate))
        for name, estimate in claim.estimates.items()
        if estimate is not None
    ]
