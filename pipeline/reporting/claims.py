"""What a claim is: the name of a sentence and the estimates in it, each with the place in a written table that it was
looked up at. Sentences are templates (`sentences.py`), so that no number of the report stands anywhere else."""

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
VERDICTS: dict[ClaimRole, str] = {
    "decided": "What is decided",
    "open": "What is not decided",
    "next": "What would decide it",
}
"""Places in the order of the page, with their titles."""
Statistic = Literal["value", "rows", "sum", "min", "max", "median"]
RowFilter = dict[str, Any]


class Source(Config):
    """A place in a table below `reports/`: of the rows that have the values of `where` (a list: any of them), the
    `statistic` of `column`; `value` where it is one row, `rows` for how many there are."""

    file: str
    column: str
    where: dict[str, Any]
    statistic: Statistic = "value"


class Estimate(Config):
    """A number, how sure it is, and where it is from."""

    value: float
    low: float | None = None
    high: float | None = None
    interval: IntervalKind = ""
    """How `low` and `high` were made."""
    n: int | None = None
    """Runs, pairs of runs or ablations that it is made from."""
    unit: Unit
    budget: int | None = None
    """The most training steps that the runs behind it had."""
    source: Source


@dataclass(frozen=True)
class Claim:
    """A sentence."""

    sentence: str
    """The name of a macro in the finding's template."""
    estimates: Mapping[str, Estimate | None]
    """Its numbers, by the macro's parameters; None where there is nothing to say."""
    words: Mapping[str, Any] = field(default_factory=dict)
    """Its other parameters: names of ablations, and what they are in words."""
    role: ClaimRole = ""
    """Where on the first screen it stands, if it does: what makes every number suspect, what the page is about, the
    answer to its question (which its section repeats), a verdict."""


def read_number(table: pd.DataFrame, places: Sequence[int], source: Source) -> float | None:
    """The number at `source`, where these are its rows; None where there are none."""
    if source.statistic == "rows":
        return float(len(places))
    values = table[source.column].to_numpy(float, na_value=np.nan)[places]
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    if source.statistic == "value":
        if len(values) > 1:
            raise ValueError(f"{source.file}: {len(values)} rows have {dict(source.where)}, where one is meant")
        return float(values[0])
    return float(getattr(np, source.statistic)(values))


def select_rows(table: pd.DataFrame, where: RowFilter) -> pd.DataFrame:
    """The rows that have these values; none where nothing is said of such a column."""
    if not set(where) <= set(table):
        return table.head(0)
    chosen = pd.Series(True, index=table.index)
    for name, value in where.items():
        chosen &= table[name].isin(value) if isinstance(value, list) else table[name] == value
    return table[chosen]


class TableReader(Protocol):
    """Whoever has tables that are written, and knows the budget behind their rows, looks its estimates up in them."""

    tables: Mapping[str, pd.DataFrame]
    """File -> the table that is written there."""

    def budget(self, where: RowFilter) -> int | None:
        """The most training steps that the runs behind these rows had, if that is known and the table has no column of
        that name."""

    def row_indices(self, file: str, where: RowFilter) -> Sequence[int]:
        """Which rows of the table have these values, as `rows_at` has it. What stands where is put together once for
        each choice of columns: a report looks up thousands of numbers."""
        table, names = self.tables[file], tuple(where)
        if not set(names) <= set(table):
            return []
        of, places = self._places.get((file, names), (None, {}))
        if of is not table:
            places = {}
            for place, values in enumerate(zip(*(table[name].tolist() for name in names), strict=True)):
                places.setdefault(values, []).append(place)
            self._places[file, names] = table, places
        wanted = product(*(value if isinstance(value, list) else [value] for value in where.values()))
        return sorted(place for values in set(wanted) for place in places.get(values, []))

    @cached_property
    def _places(self) -> dict[tuple[str, tuple[str, ...]], tuple[pd.DataFrame, dict[tuple[Any, ...], list[int]]]]:
        return {}

    def estimate(
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
        """What stands in `column` of the rows at `where`; None where there is nothing. `interval`, `limits`, `n`: how
        sure it is, and the columns of the same rows that say so (limits that are not named are called as the column, or
        `low` and `high` in a table that has one value)."""
        source = Source(file=file, column=column, where=where, statistic=statistic)
        table, places = self.tables[file], self.row_indices(file, where)

        def at(column: str | None, statistic: Statistic = statistic) -> float | None:
            asked = source.model_copy(update={"column": column, "statistic": statistic})
            return read_number(table, places, asked) if column in table else None

        if (value := at(column)) is None:
            return None
        if interval and limits is None:
            limits = (f"{column}_low", f"{column}_high") if f"{column}_low" in table else ("low", "high")
        low, high = map(at, limits or (None, None))
        budget = at("budget", "max")
        if unit == "share" and low is not None and high is not None:
            low, high = max(low, 0.0), min(high, 1.0)  # a t interval does not know of these bounds
        size = at(n)
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
    """A number of a sentence, as `claims.json` holds it."""

    claim: str
    """Finding and sentence, such as `without_mask.answer`."""
    task: str
    """The task's name in `params.yaml`."""
    name: str
    """Which number of the sentence it is."""


class Claims(Config):
    """The whole of `claims.json`: every number of the report's sentences."""

    claims: list[Record]


def records(finding: str, task: str, claim: Claim) -> list[Record]:
    """The numbers of a claim."""
    said = f"{finding}.{claim.sentence}"
    return [
        Record(claim=said, task=task, name=name, **dict(found))
        for name, found in claim.estimates.items()
        if found is not None
    ]
