"""Estimates: every number that a page shows is a row of one table, computed by one registered function."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import UserError
from pipeline.params import Ablation
from pipeline.reporting.intervals import IMPOSSIBLE
from pipeline.reporting.results import TEXT_COLUMNS, Results, read_table
from pipeline.reporting.wording import Unit, format_number, share_interval

ESTIMATES = "estimates.csv"
COLUMN_TYPES = {
    "task": "str", "ablation": "str", "versus": "str", "quantity": "str",
    "layer": "Int64", "sublayer": "str", "depth": "Int64", "position": "Int64", "key": "str", "moment": "str",
    "value": "float", "low": "float", "high": "float", "n": "Int64", "unit": "str", "method": "str",
    "budget": "Int64", "p": "float", "p_corrected": "float",
}  # fmt: skip
"""Columns of `estimates.csv`, and the types of their values. `versus` is the ablation that is subtracted."""
DECIDED_LEVEL = 0.05
"""A declared comparison is decided if its corrected p-value is below this level."""
Row = Mapping[Any, Any]
"""A row of `estimates.csv`: column -> value."""
Statistic = Callable[[Results], Iterator[Row] | pd.DataFrame]
STATISTICS: list[Statistic] = []
"""All registered statistics, in the order of the rows of `estimates.csv`."""
QUANTITIES: set[str] = set()
"""Names of the quantities that the statistics compute, but for measured ones, which are named `measurement.value`."""


def statistic(*quantities: str) -> Callable[[Statistic], Statistic]:
    """Return a decorator that registers a function from the results of an experiment to rows of `estimates.csv`.

    The rows have these quantities. Columns that a row lacks stay empty.
    """

    def register(function: Statistic) -> Statistic:
        STATISTICS.append(function)
        QUANTITIES.update(quantities)
        return function

    return register


def estimate(ablation: Ablation, quantity: str, value: Row | float, unit: Unit = "number", **columns: Any) -> Row:
    """Return a row of `estimates.csv`; `value` is a number, or the columns that a function of `intervals` returns."""
    identity = {"task": ablation.dataset, "ablation": ablation.name, "quantity": quantity}
    numbers = value if isinstance(value, Mapping) else {"value": value}
    return {**identity, **numbers, "unit": unit, "budget": ablation.training.steps, **columns}


def complete_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of `estimates.csv` with all columns; missing texts are empty, and intervals of shares
    and of their differences end where these can."""
    table = rows.reindex(columns=list(COLUMN_TYPES)).astype(object)
    table = table.fillna(dict.fromkeys(TEXT_COLUMNS, "")).astype(COLUMN_TYPES)
    for unit, least in {"share": 0.0, "points": -1.0}.items():
        chosen = (table["unit"] == unit) & ((table["versus"] == "") | (unit == "points"))
        table.loc[chosen, ["low", "high"]] = table.loc[chosen, ["low", "high"]].clip(least, 1.0)
    return table


@dataclass(frozen=True)
class Estimate:
    """One row of `estimates.csv`, which prints itself as `838 (808 to 867)`, `8 of 8` or `at least 484 (...)`."""

    row: Row

    @property
    def value(self) -> float:
        """The estimated value."""
        return float(self.row["value"])

    @property
    def numbers(self) -> tuple[float, float, float]:
        """The value, and the ends of its interval."""
        return self.value, self.row["low"], self.row["high"]

    @property
    def is_decided(self) -> bool:
        """True if the comparison was declared, and its corrected p-value is below `DECIDED_LEVEL`."""
        return bool(self.row["p_corrected"] < DECIDED_LEVEL)

    @property
    def is_impossible(self) -> bool:
        """True for the share of converged runs of an ablation that cannot converge by proof."""
        return bool(self.row["method"] == IMPOSSIBLE)

    def negated(self) -> "Estimate":
        """Return the difference the other way round: second minus first."""
        method, separator, bound = self.row["method"].partition("; ")
        method += separator + {"at least": "at most", "at most": "at least"}.get(bound, bound)
        value, low, high = self.numbers
        pair = {"ablation": self.row["versus"], "versus": self.row["ablation"]}
        return Estimate({**self.row, **pair, "method": method, "value": -value, "low": -high, "high": -low})

    def p_text(self) -> str:
        """Return the corrected p-value as text; empty if there is none."""
        return "" if pd.isna(p := self.row["p_corrected"]) else format_number(p, "p")

    def budget(self) -> str:
        """Return the budget of the runs as text."""
        return format_number(self.row["budget"], "steps")

    def count(self) -> int:
        """Return the number of runs of an estimate whose unit is `runs`."""
        return round(self.value * self.row["n"])

    def number(self, *, signed: bool = False) -> str:
        """Return the value as text: `k of n` for a count of runs; with `signed`, positive values get a plus sign."""
        if self.row["unit"] == "runs":
            return f"{self.count()} of {self.row['n']}"
        return format_number(self.value, self.row["unit"], signed=signed)

    def interval(self, *, signed: bool = False) -> str:
        """Return the interval as text, such as `808 to 867`; empty without an interval."""
        ends = float(self.row["low"]), float(self.row["high"])
        if not all(map(math.isfinite, ends)):
            return ""
        if self.row["unit"] == "runs":
            return share_interval(*ends)
        low, high = (format_number(end, self.row["unit"], signed=signed) for end in ends)
        return f"{low} to {high}" if low != high else ""

    def text(self, *, signed: bool = False) -> str:
        """Return the bound in words if runs are censored, the value, and the interval in parentheses.

        A mean of steps is `more than` the budget if no run converged.
        """
        _, _, bound = self.row["method"].partition("; ")
        if bound == "at least" and self.value == self.row["budget"]:
            return f"more than {self.budget()}"
        interval = self.interval(signed=signed)
        return " ".join(filter(None, (bound, self.number(signed=signed), interval and f"({interval})")))

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True)
class Estimates:
    """The table of estimates, and look-ups in it."""

    table: pd.DataFrame

    @cached_property
    def _by_quantity(self) -> dict[str, pd.DataFrame]:  # a report selects thousands of times
        return {str(quantity): rows for quantity, rows in self.table.groupby("quantity", sort=False)}

    def select(self, quantity: str, **columns: Any) -> pd.DataFrame:
        """Return the rows of a quantity with the given values in other columns; an empty or missing value is `""`."""
        rows = self._by_quantity.get(quantity, self.table.iloc[:0])
        for name, value in columns.items():
            rows = rows[rows[name] == value]
        return rows

    def find(self, quantity: str, *, ablation: str, **columns: Any) -> Estimate | None:
        """Return the estimate of a quantity of an ablation that further columns identify, or None.

        A UserError is raised if several rows match.
        """
        rows = self.select(quantity, ablation=ablation, **columns).to_dict("records")
        if len(rows) > 1:
            raise UserError(f"{ablation}: {len(rows)} estimates of {quantity} have {columns}; name further columns")
        return Estimate(rows[0]) if rows else None


def read_estimates(path: Path) -> Estimates:
    """Read `estimates.csv`; a UserError is raised if the file is missing, damaged, or has other columns."""
    table = read_table(path, creating_command="python -m pipeline report")
    if list(table) != list(COLUMN_TYPES):
        raise UserError(f"{path}: of another version; make it again with `python -m pipeline report`")
    return Estimates(table.astype(COLUMN_TYPES))
