"""The results of one task: its ablations, and the tables from which sections read every number that they show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline import switches
from pipeline.measurement.order_blind import is_order_blind
from pipeline.params import Ablation
from pipeline.reporting.claims import Estimate, RowFilter, TableReader, Unit
from pipeline.tasks import Problems

UNITS: dict[str, Unit] = {
    "restricted_steps": "more steps",
    "test_bits": "more bits",
    "effective_rank": "number",
    "position_r2": "more",
}
"""Of a comparison's measure; of all others, points."""


@dataclass(frozen=True)
class TaskResults(TableReader):
    """The results on one task."""

    dataset: str
    """The task's name."""
    problems: Problems
    ablations: Sequence[Ablation]
    """The ablations trained on it, in the order in which they are shown."""
    tables: Mapping[str, pd.DataFrame]
    """File below `reports/` -> the table that is written there, of all tasks."""
    measurements: Mapping[str, pd.DataFrame]
    """Measurement -> a row per member, moment and key: `ablation, seed, step, trained` (1: as the last step left it; 0
    with step 0: at initialisation; 0 with a later step: a snapshot), then its keys, then its values. A member whose
    weights are not finite is left out."""
    history: pd.DataFrame
    """`ablation, seed, step, validation_exact_match, ...`, a row per evaluation of any task."""
    ceiling: float | None
    """The best exact match of any order-blind predictor of this task, where it is known."""

    @property
    def runs(self) -> pd.DataFrame:
        """The rows of `runs.csv` of this task."""
        runs = self.tables["runs.csv"]
        return runs[runs["task"] == self.dataset]

    @property
    def declared(self) -> pd.DataFrame:
        """The rows of `comparisons.csv` of this task that params.yaml declares."""
        table = self.tables["comparisons.csv"]
        return table[(table["declared"] == 1) & table["first"].isin([ablation.name for ablation in self.ablations])]

    def counts(self) -> dict[str, Estimate | None]:
        """How many ablations and runs there are, and the largest budget."""
        of_task = {"task": self.dataset}
        return {
            "ablations": self.estimate("ablations.csv", "runs", "count", of_task, statistic="rows"),
            "runs": self.estimate("ablations.csv", "runs", "count", of_task, statistic="sum"),
            "budget": self.estimate("ablations.csv", "budget", "steps", of_task, statistic="max"),
        }

    def usual_ablations(self, **values: object) -> list[Ablation]:
        """The ablations with these switches that are otherwise as most are, with every residual connection."""
        return switches.ablations_with(self.ablations, **(switches.common_values(self.ablations) | values))

    def budget(self, where: RowFilter) -> int | None:
        """That of the ablation whose rows they are; of two ablations compared, the smaller."""
        named = [where.get(key) for key in ("ablation", "first", "second")]
        return min((ablation.training.steps for ablation in self.ablations if ablation.name in named), default=None)

    def ablation_column(self, column: str, unit: Unit) -> Callable[[Ablation], Estimate | None]:
        """What `ablations.csv` says of an ablation in that column."""
        return lambda ablation: self.estimate("ablations.csv", column, unit, {"ablation": ablation.name})

    def converged(self, ablation: Ablation) -> Estimate | None:
        """How many of the ablation's runs converged."""
        where = {"ablation": ablation.name}
        return self.estimate("ablations.csv", "converged", "count", where, n="runs", interval="Clopper-Pearson 95%")

    def steps(self, ablation: Ablation) -> Estimate | None:
        """The mean steps to converge of the ablation's runs; one that did not counts as its budget."""
        where = {"ablation": ablation.name}
        return self.estimate("ablations.csv", "restricted_steps", "steps", where, n="runs", interval="t 95%")

    def still_rising(self, ablation: Ablation) -> Estimate | None:
        """How many of the ablation's runs had not converged and still got better; None where none had, or no number of
        steps could be enough."""
        if is_order_blind(ablation.model) or ablation.converged_at is None:
            return None
        found = self.estimate("ablations.csv", "still_rising", "count", {"ablation": ablation.name}, n="runs")
        return found if found and found.value else None

    def diverged(self, ablation: Ablation) -> Estimate | None:
        """How many of the ablation's runs diverged; None where none did."""
        found = self.estimate("ablations.csv", "diverged", "count", {"ablation": ablation.name}, n="runs")
        return found if found and found.value else None

    def exact_match(self, ablation: Ablation) -> Estimate | None:
        """The median test exact match of its runs."""
        median, low, high = (f"test_exact_match_{name}" for name in ("median", "min", "max"))
        return self.estimate(
            "ablations.csv", median, "share", {"ablation": ablation.name}, n="runs",
            limits=(low, high), interval="minimum to maximum",
        )  # fmt: skip

    def bits(self, ablation: Ablation) -> Estimate | None:
        """The mean test bits per token of its runs."""
        return self.estimate(
            "ablations.csv", "test_bits", "bits", {"ablation": ablation.name}, n="runs", interval="t 95%"
        )

    def order_value(self, ablation: Ablation) -> Estimate | None:
        """How many bits per token its twin takes more."""
        where = {"ablation": ablation.name}
        return self.estimate("order_value.csv", "bits", "more bits", where, n="seeds", interval="t 95%")

    def mean(
        self, measurement: str, value: str, unit: Unit, ablation: Ablation, *, trained: int = 1, **keys: Any
    ) -> Estimate | None:
        """The mean over the ablation's members of a measured value: as trained, or (`trained=0`) before training."""
        where = {
            "ablation": ablation.name,
            "value": value,
            "trained": trained,
            **({} if trained else {"step": 0}),
            **keys,
        }
        return self.estimate(f"measurements/{measurement}.csv", "mean", unit, where, n="n", interval="t 95%")

    def compared(self, measure: str, first: Ablation, second: Ablation) -> Estimate | None:
        """What `first` has more than `second`, the mean over the seeds of both."""
        where = {"measure": measure, "first": first.name, "second": second.name}
        unit = UNITS.get(measure, "points")
        return self.estimate("comparisons.csv", "difference", unit, where, n="seeds", interval="t 95%")

    def corrected_p(self, found: Estimate | None) -> Estimate | None:
        """The corrected p-value of a comparison; None where it was not declared, or so few seeds cannot decide it."""
        return self.same_row(found, "p_holm", "p")

    def corrected_log_rank_p(self, found: Estimate | None) -> Estimate | None:
        """The corrected p-value of the log-rank test beside it; None where there is none."""
        return self.same_row(found, "p_log_rank_holm", "p")

    def same_row(self, found: Estimate | None, column: str, unit: Unit) -> Estimate | None:
        """Another column of the row that an estimate is from; None of none."""
        return found and self.estimate(found.source.file, column, unit, found.source.where)

    def measurement(self, measurement: str) -> pd.DataFrame:
        """A row per member, moment and key, of the ablations of this task; empty where nothing was measured."""
        table = self.measurements.get(measurement, pd.DataFrame(columns=["ablation"]))
        return table[table["ablation"].isin([ablation.name for ablation in self.ablations])]


def before_training(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the untrained members."""
    return table[(table["trained"] == 0) & (table["step"] == 0)]


def after_training(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the members as their last step left them."""
    return table[table["trained"] == 1]
