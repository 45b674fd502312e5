"""Tables of the report: pivots of the estimates, as data frames of text without rows if there is nothing to show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pandas as pd

from pipeline import switches
from pipeline.measurement.registry import Measurement
from pipeline.params import Ablation, Task
from pipeline.reporting.estimates import Estimate, Estimates
from pipeline.reporting.mechanism import comparison_depth
from pipeline.reporting.results import EARLIER_STEPS, KEYS, PERCENT, STEPS, Results

QUANTITY_HEADERS = {
    **{quantity: f"Steps to {PERCENT[quantity]} %" for quantity in EARLIER_STEPS},
    "restricted_steps": "Steps to the target", "test_exact_match": "Exact match", "test_bits": "Bits",
}  # fmt: skip
"""Quantity of a declared comparison, or threshold beside its target -> header of the column with the difference."""
MAX_ABLATIONS_IN_SUMMARY = 50
"""Largest number of ablations of a task whose table of results is in the summary; longer ones are in the details."""
MOMENT_WORDS = {"trained": "as trained", "initial": "before training"}


@dataclass(frozen=True)
class Column:
    """Column of a table with a row per ablation: which estimate it shows, and what of it."""

    quantity: str
    moment: str = ""
    where: Callable[[Ablation], Mapping[str, Any]] = lambda ablation: {}
    """Function that returns further columns of `estimates.csv` which identify the estimate of an ablation."""
    show: str = "text"
    """Name of the method of `Estimate` that returns the text of a cell."""


@dataclass(frozen=True)
class TaskView:
    """The results on one task, its ablations in the order of the page, and the tables that show them."""

    results: Results
    estimates: Estimates

    @property
    def task(self) -> Task:
        """The task of all ablations."""
        return self.results.ablations[0].task

    @property
    def dataset(self) -> str:
        """Name of the task in `params.yaml`."""
        return self.results.ablations[0].dataset

    @property
    def has_many_ablations(self) -> bool:
        """True if the task has more than `MAX_ABLATIONS_IN_SUMMARY` ablations."""
        return len(self.results.ablations) > MAX_ABLATIONS_IN_SUMMARY

    @cached_property
    def usual_values(self) -> dict[str, Any]:
        """Value of each switch that descriptions of ablations leave out."""
        return switches.find_unmentioned_values(self.results.ablations)

    def describe(self, ablation: Ablation) -> str:
        """Describe an ablation in words: its switches that differ from those of most ablations of the task."""
        return switches.describe_ablation(ablation, self.usual_values)

    def find(self, quantity: str, ablation: Ablation, **columns: Any) -> Estimate | None:
        """Return the estimate of a quantity of an ablation (by default not of a difference), or None."""
        return self.estimates.find(quantity, ablation=ablation.name, **({"versus": ""} | columns))

    def select_measured(self, quantity: str, **columns: Any) -> pd.DataFrame:
        """Return the estimates of a measured quantity of the task, as trained unless `columns` say otherwise.

        The position `last` is the last that was measured on the task.
        """
        is_last = columns.pop("position", None) == "last"
        rows = self.estimates.select(quantity, **{"versus": "", "moment": "trained"} | columns)
        rows = rows[rows["ablation"].isin([ablation.name for ablation in self.results.ablations])]
        return rows[rows["position"] == rows["position"].max()] if is_last else rows

    def ablation_table(self, columns: Mapping[str, Column], *, described: bool = False) -> pd.DataFrame:
        """Return a table with a row per ablation and the columns that have content; `described` adds words.

        A cell is empty if there is no such estimate, or if it counts 0 runs and that is good news.
        """
        rows = []
        for ablation in self.results.ablations:
            cells = {}
            for header, column in columns.items():
                estimate = self.find(column.quantity, ablation, moment=column.moment, **column.where(ablation))
                is_shown = estimate and (estimate.value or column.quantity not in ("still_rising", "diverged"))
                cells[header] = getattr(estimate, column.show)() if is_shown else ""
            if any(cells.values()):
                words = {"What it is": self.describe(ablation)} if described else {}
                rows.append({"Ablation": f"`{ablation.name}`"} | cells | words)
        table = pd.DataFrame(rows)
        return table.loc[:, (table != "").any()]

    def axis_table(self, quantity: str, axis: str, **columns: Any) -> pd.DataFrame:
        """Return a table with a row per ablation and a column per value on an axis, such as the depth.

        `axis` is a column of `estimates.csv`. Other columns must have the values `columns` (default: as trained).
        """
        rows = self.select_measured(quantity, **columns)
        texts = rows.assign(text=[str(Estimate(row)) for row in rows.to_dict("records")])
        table = texts.pivot_table("text", "ablation", axis, aggfunc="last").fillna("")
        table = table.loc[[ablation.name for ablation in self.results.ablations if ablation.name in table.index]]
        header = "{}" if axis == "key" else f"{axis} {{}}"
        return table.rename(index="`{}`".format, columns=header.format).reset_index(names="Ablation")

    def contrast_table(self, switch: str, headers: Mapping[str, str]) -> pd.DataFrame:
        """Return a table with a row per pair of ablations that differ in one switch: the difference in each quantity.

        `headers` maps each quantity to the header of its column. Ablations without residual connections are compared
        with intact ones.
        """
        ablations = {ablation.name: ablation for ablation in self.results.ablations}
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for quantity, header in headers.items():
            for row in self.estimates.select(quantity).to_dict("records"):
                first, second = ablations.get(row["ablation"]), ablations.get(row["versus"])
                if not first or not second or switches.differing_switches(first, second) != [switch]:
                    continue
                if switch == "residual_free" and not switches.is_intact(second):
                    continue
                cells = rows.setdefault((first.name, second.name), {"Difference": f"`{first.name}` − `{second.name}`"})
                cells[header] = Estimate(row).text(signed=True)
                if quantity == "restricted_steps":
                    cells |= {"Runs each": str(row["n"]), "Budget": Estimate(row).budget()}
        return pd.DataFrame(list(rows.values())).fillna("")

    def verdict_table(self) -> pd.DataFrame:
        """Return a table with a row per declared comparison: its difference, p-values, and what would decide it."""
        rows = []
        for comparison in self.results.comparisons:
            find = partial(self.estimates.find, ablation=comparison.first, versus=comparison.second)
            quantities = STEPS if comparison.quantity == "restricted_steps" else (comparison.quantity,)
            differences = {quantity: row for quantity in quantities if (row := find(quantity))}
            if (difference := differences.get(comparison.quantity)) is None:
                continue
            log_rank = find("log_rank")
            rows.append({
                "Contrast": f"`{comparison.first}` − `{comparison.second}`",
                **{QUANTITY_HEADERS[quantity]: row.text(signed=True) for quantity, row in differences.items()},
                "n": str(difference.row["n"]),
                "p": difference.p_text(),
                "log-rank p": log_rank.p_text() if log_rank else "",
                "Verdict": verdict(differences, find(f"runs_needed_{comparison.quantity}")),
            })  # fmt: skip
        return pd.DataFrame(rows).fillna("")

    def measurement_tables(self, measurement: Measurement) -> dict[str, pd.DataFrame]:
        """Return tables of a measurement's first value, before and after training, by the sentences above them.

        They have a column per depth or layer, if the measurement has any; other keys are as in the first row.
        """
        value, words = next(iter(measurement.value_descriptions.items()))
        quantity = value if value == measurement.name else f"{measurement.name}.{value}"
        rows = self.estimates.select(quantity, moment="trained", versus="")
        axis = next((name for name in ("depth", "layer") if rows[name].notna().any()), "")
        keys = {name: rows[name].iloc[0] for name in (*KEYS, "key") if name != axis and rows[name].nunique() > 1}
        heading = words[0].upper() + words[1:]
        if axis:
            tables = {name: self.axis_table(quantity, axis, **keys, moment=name) for name in MOMENT_WORDS}
            return {f"{heading}, {MOMENT_WORDS[name]}:": table for name, table in tables.items()}
        columns = {text.capitalize(): Column(quantity, name, lambda _: keys) for name, text in MOMENT_WORDS.items()}
        return {f"{heading}:": self.ablation_table(columns)}


def verdict(differences: Mapping[str, Estimate], needed: Estimate | None) -> str:
    """Return the verdict on a comparison as text.

    `differences` has the difference in each quantity, the declared one last. If that is the steps to the target, a
    verdict needs a second threshold at which it holds, and none at which the difference has the other sign.
    """
    *others, target = differences.values()
    decided = [PERCENT.get(quantity, "") for quantity, difference in differences.items() if difference.is_decided]
    thresholds = " and ".join(filter(None, [", ".join(decided[:-1]), *decided[-1:]])) + " %"
    if not others and target.is_decided:
        return "**decided**"
    if decided and (len(decided) == 1 or any(other.value * target.value < 0 for other in others)):
        return f"depends on the threshold (decided at {thresholds})"
    if decided:
        return f"**decided** at {thresholds}"
    runs = f"; about {needed.number()} new runs of each would decide it" if needed and pd.notna(needed.value) else ""
    return f"not decided{runs}"


def at_comparison_depth(ablation: Ablation) -> Mapping[str, Any]:
    """Return the columns of the depth after the last layer that lacks a residual connection."""
    return {"depth": comparison_depth(ablation)}


def at_norm_after_missing_connection(ablation: Ablation) -> Mapping[str, Any]:
    """Return the columns of the norm after an ablation's last missing residual connection."""
    free = ablation.model.residual_free
    layer = max(free.layers, default=-1)
    if layer >= 0 and layer not in free.mlp:
        return {"layer": layer, "sublayer": "mlp"}
    is_last = layer + 1 == ablation.model.layers
    return {"layer": layer + 1, "sublayer": "output" if is_last else "attention"}


def outcomes_by_task(views: Sequence[TaskView]) -> pd.DataFrame:
    """Return a table with a row per task and a column per kind of ablation: converged runs, or bits per token."""
    rows = []
    for view in views:
        row = {"Task": f"`{view.dataset}`"}
        for ablation in view.results.ablations:
            outcome = view.find("converged", ablation) or view.find("test_bits", ablation)
            row.setdefault(view.describe(ablation), str(outcome or ""))
            ceiling = view.find("order_blind_ceiling", ablation)
            row["Ceiling"] = ceiling.number() if ceiling else row.get("Ceiling", "")
        rows.append(row)
    table = pd.DataFrame(rows).fillna("")
    return table[[*table.columns.drop("Ceiling"), "Ceiling"]]
