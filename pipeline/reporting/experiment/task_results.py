"""The results of one task: its ablations, and the tables from which sections read every number that they show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline import switches
from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.params import Ablation, Task
from pipeline.reporting.claims import Estimate, RowFilter, TableReader, Unit

DIFFERENCE_UNITS: dict[str, Unit] = {
    "restricted_steps": "more steps",
    "test_bits": "more bits",
    "effective_rank": "number",
    "position_r2": "more",
}
"""Measure by which ablations are compared -> unit of the differences; all other measures have percentage points."""


@dataclass(frozen=True)
class TaskResults(TableReader):
    """The results of an experiment on one task."""

    dataset: str
    """Name of the task in `params.yaml`."""
    task: Task
    ablations: Sequence[Ablation]
    """The ablations trained on the task, in the order of the report."""
    tables: Mapping[str, pd.DataFrame]
    """File name relative to `reports/` -> table with the results of all tasks in that file."""
    measurements: Mapping[str, pd.DataFrame]
    """Name of a measurement -> table: `ablation, seed, step, trained`, key columns, and measured values.

    `trained` is 1 after the last step, otherwise 0; step 0 is initialisation, a later step with `trained` 0 a snapshot.
    Runs whose weights are not finite are left out.
    """
    history: pd.DataFrame
    """`ablation, seed, step, validation_exact_match, ...`: a row per evaluation during training, of all tasks."""
    ceiling: float | None
    """The best exact match of any order-blind predictor on the task; None if it cannot be enumerated."""

    @property
    def runs(self) -> pd.DataFrame:
        """The rows of `runs.csv` for the runs on this task."""
        runs = self.tables["runs.csv"]
        return runs[runs["task"] == self.dataset]

    @property
    def declared_comparisons(self) -> pd.DataFrame:
        """The rows of `comparisons.csv` for this task that `params.yaml` declares."""
        table = self.tables["comparisons.csv"]
        return table[(table["declared"] == 1) & table["first"].isin([ablation.name for ablation in self.ablations])]

    def experiment_size(self) -> dict[str, Estimate | None]:
        """Return the number of `ablations` and of `runs`, and the largest `budget`."""
        filters = {"task": self.dataset}
        return {
            "ablations": self.read_estimate("ablations.csv", "runs", "count", filters, statistic="rows"),
            "runs": self.read_estimate("ablations.csv", "runs", "count", filters, statistic="sum"),
            "budget": self.read_estimate("ablations.csv", "budget", "steps", filters, statistic="max"),
        }

    def usual_ablations(self, **values: object) -> list[Ablation]:
        """Return the ablations with these values of switches, whose other switches have their most common value."""
        return switches.select_ablations(self.ablations, **(switches.find_unmentioned_values(self.ablations) | values))

    def budget_of_rows(self, row_filter: RowFilter) -> int | None:
        """Return the budget of the ablation in the filter, or the smaller budget of two compared ablations."""
        names = [row_filter.get(key) for key in ("ablation", "first", "second")]
        return min((ablation.training.steps for ablation in self.ablations if ablation.name in names), default=None)

    def column_reader(self, column: str, unit: Unit) -> Callable[[Ablation], Estimate | None]:
        """Return a function that reads the value of an ablation in a column of `ablations.csv`."""
        return lambda ablation: self.read_estimate("ablations.csv", column, unit, {"ablation": ablation.name})

    def converged_runs(self, ablation: Ablation) -> Estimate | None:
        """Return the number of the ablation's runs that converged."""
        where = {"ablation": ablation.name}
        return self.read_estimate(
            "ablations.csv", "converged", "count", where, n_column="runs", interval="Clopper-Pearson 95%"
        )

    def mean_steps(self, ablation: Ablation) -> Estimate | None:
        """Return the mean steps to converge; a run that did not converge counts as its budget."""
        where = {"ablation": ablation.name}
        return self.read_estimate(
            "ablations.csv", "restricted_steps", "steps", where, n_column="runs", interval="t 95%"
        )

    def still_rising_runs(self, ablation: Ablation) -> Estimate | None:
        """Return the number of the ablation's runs that were still improving when their budget ended; None if zero.

        None, too, if no number of steps could be enough: for an order-blind ablation, or without a target score.
        """
        if is_order_blind(ablation.model) or ablation.convergence_threshold is None:
            return None
        return self._read_positive_count("still_rising", ablation)

    def diverged_runs(self, ablation: Ablation) -> Estimate | None:
        """Return the number of the ablation's runs that diverged; None if zero."""
        return self._read_positive_count("diverged", ablation)

    def _read_positive_count(self, column: str, ablation: Ablation) -> Estimate | None:
        count = self.read_estimate("ablations.csv", column, "count", {"ablation": ablation.name}, n_column="runs")
        return count if count and count.value else None

    def median_exact_match(self, ablation: Ablation) -> Estimate | None:
        """Return the median test exact match of the ablation's runs, with its range."""
        median, low, high = (f"test_exact_match_{name}" for name in ("median", "min", "max"))
        return self.read_estimate(
            "ablations.csv", median, "share", {"ablation": ablation.name}, n_column="runs",
            limit_columns=(low, high), interval="minimum to maximum",
        )  # fmt: skip

    def mean_bits(self, ablation: Ablation) -> Estimate | None:
        """Return the mean test bits per token of the ablation's runs."""
        where = {"ablation": ablation.name}
        return self.read_estimate("ablations.csv", "test_bits", "bits", where, n_column="runs", interval="t 95%")

    def order_value(self, ablation: Ablation) -> Estimate | None:
        """Return how many more bits per token the ablation takes on shuffled data; None if not trained on them."""
        where = {"ablation": ablation.name}
        return self.read_estimate("order_value.csv", "bits", "more bits", where, n_column="seeds", interval="t 95%")

    def measured_mean(
        self, measurement: str, value: str, unit: Unit, ablation: Ablation, *, trained: int = 1, **keys: Any
    ) -> Estimate | None:
        """Return the mean of a measured value over the ablation's runs: after training, or before (`trained=0`).

        `keys` fixes the measurement's key columns, such as `depth=2`.
        """
        where = {"ablation": ablation.name, "value": value, "trained": trained}
        if not trained:
            where["step"] = 0
        where |= keys
        return self.read_estimate(
            f"measurements/{measurement}.csv", "mean", unit, where, n_column="n", interval="t 95%"
        )

    def mean_difference(self, measure: str, first: Ablation, second: Ablation) -> Estimate | None:
        """Return the mean difference of two ablations in a measure, `first` - `second`, over the seeds of both."""
        where = {"measure": measure, "first": first.name, "second": second.name}
        unit = DIFFERENCE_UNITS.get(measure, "points")
        return self.read_estimate("comparisons.csv", "difference", unit, where, n_column="seeds", interval="t 95%")

    def corrected_p_value(self, difference: Estimate | None) -> Estimate | None:
        """Return the corrected p-value of a comparison; None if it was not declared, or has too few seeds."""
        return self.read_same_row(difference, "p_holm", "p")

    def corrected_log_rank_p_value(self, difference: Estimate | None) -> Estimate | None:
        """Return the corrected p-value of a comparison's log-rank test; None if the test was not made."""
        return self.read_same_row(difference, "p_log_rank_holm", "p")

    def read_same_row(self, estimate: Estimate | None, column: str, unit: Unit) -> Estimate | None:
        """Read another column of the table row that an estimate was read from; None if the estimate is None."""
        return estimate and self.read_estimate(estimate.source.file, column, unit, estimate.source.where)

    def measurement_table(self, name: str) -> pd.DataFrame:
        """Return the values of a measurement for this task's ablations; empty if nothing was measured."""
        table = self.measurements.get(name, pd.DataFrame(columns=["ablation"]))
        return table[table["ablation"].isin([ablation.name for ablation in self.ablations])]


def rows_before_training(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a measurement that were measured at initialisation."""
    return table[(table["trained"] == 0) & (table["step"] == 0)]


def rows_after_training(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a measurement that were measured after the last training step."""
    return table[table["trained"] == 1]
