"""Tables of the report: pivots of the estimates, as data frames of text without rows if there is nothing to show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation
from pipeline.reporting.estimates import Estimate, Estimates
from pipeline.reporting.results import Results

QUANTITY_WORDS = {"restricted_steps": "steps", "test_exact_match": "exact match", "test_bits": "bits"}


@dataclass(frozen=True)
class TaskView:
    """What the sections of one task are made from."""

    results: Results
    """The results on the task, its ablations in the order of the page."""
    estimates: Estimates

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
        is_last = columns.get("position") == "last"
        where = {"versus": "", "moment": "trained"} | {
            name: value for name, value in columns.items() if value != "last"
        }
        rows = self.estimates.select(quantity, **where)
        rows = rows[rows["ablation"].isin([ablation.name for ablation in self.results.ablations])]
        return rows[rows["position"] == rows["position"].max()] if is_last else rows


@dataclass(frozen=True)
class Column:
    """Column of a table with a row per ablation: which estimate it shows, and what of it."""

    quantity: str
    moment: str = ""
    where: Callable[[Ablation], Mapping[str, Any]] = field(default=lambda ablation: {})
    """Function that returns further columns of `estimates.csv` which identify the estimate of an ablation."""
    show: Callable[[Estimate], str] = str

    def read(self, view: TaskView, ablation: Ablation) -> str:
        """Return the text of a cell; empty if there is no such estimate, or a count of 0 that is good news."""
        estimate = view.find(self.quantity, ablation, **{"moment": self.moment, **self.where(ablation)})
        if estimate is None or (self.quantity in ("still_rising", "diverged") and not estimate.value):
            return ""
        return self.show(estimate)


def ablation_table(columns: Mapping[str, Column], view: TaskView, *, described: bool = False) -> pd.DataFrame:
    """Return a table with a row per ablation and the columns that have content; in the last, if `described`, words."""
    rows = []
    for ablation in view.results.ablations:
        cells = {header: column.read(view, ablation) for header, column in columns.items()}
        words = {"What it is": view.describe(ablation)} if described else {}
        if any(cells.values()):
            rows.append({"Ablation": f"`{ablation.name}`"} | cells | words)
    table = pd.DataFrame(rows)
    return table.loc[:, (table != "").any()]


def axis_table(quantity: str, axis: str, view: TaskView, **columns: Any) -> pd.DataFrame:
    """Return a table with a row per ablation and a column per value on an axis, such as the depth.

    `axis` is a column of `estimates.csv`. Other columns must have the values `columns` (default: as trained).
    """
    rows = view.select_measured(quantity, **columns)
    texts = rows.assign(text=[str(Estimate(row)) for row in rows.to_dict("records")])
    table = texts.pivot_table("text", "ablation", axis, aggfunc="last").fillna("")
    table = table.loc[[ablation.name for ablation in view.results.ablations if ablation.name in table.index]]
    header = "{}" if axis == "key" else f"{axis} {{}}"
    return table.rename(index="`{}`".format, columns=header.format).reset_index(names="Ablation")


def contrast_table(switch: str, headers: Mapping[str, str], view: TaskView) -> pd.DataFrame:
    """Return a table with a row per pair of ablations that differ in one switch: the difference in each quantity.

    `headers` maps each quantity to the header of its column. Ablations without residual connections are compared with
    intact ones.
    """
    ablations = {ablation.name: ablation for ablation in view.results.ablations}
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for quantity, header in headers.items():
        for row in view.estimates.select(quantity).to_dict("records"):
            first, second = ablations.get(row["ablation"]), ablations.get(row["versus"])
            if first is None or second is None or switches.differing_switches(first, second) != [switch]:
                continue
            if switch == "residual_free" and not switches.is_intact(second):
                continue
            cells = rows.setdefault((first.name, second.name), {"Difference": f"`{first.name}` − `{second.name}`"})
            cells[header] = Estimate(row).text(signed=True)
            if quantity == "restricted_steps":
                cells |= {"Shared seeds": str(row["n"]), "Budget": Estimate(row).budget()}
    return pd.DataFrame(list(rows.values())).fillna("")


def verdict_table(view: TaskView) -> pd.DataFrame:
    """Return a table with a row per declared comparison: its difference, p-values, and what would decide it."""
    rows = []
    for comparison in view.results.comparisons:
        pair = {"ablation": comparison.first, "versus": comparison.second}
        difference = view.estimates.find(comparison.quantity, **pair)
        if difference is None:
            continue
        log_rank = view.estimates.find("log_rank", **pair)
        seeds = view.estimates.find(f"seeds_needed_{comparison.quantity}", **pair)
        verdict = "**decided**" if difference.is_decided else "not decided"
        if not difference.is_decided and seeds and pd.notna(seeds.value):
            verdict += f"; about {seeds.number()} fresh seeds would decide it"
        rows.append({
            "Contrast": f"`{comparison.first}` − `{comparison.second}`",
            f"Difference in {QUANTITY_WORDS[comparison.quantity]}": difference.text(signed=True),
            "n": str(difference.row["n"]),
            "p": difference.p_text(),
            "log-rank p": log_rank.p_text() if log_rank else "",
            "Verdict": verdict,
        })  # fmt: skip
    return pd.DataFrame(rows).fillna("")


def outcomes_by_task(views: Sequence[TaskView]) -> pd.DataFrame:
    """Return a table with a row per task and a column per kind of ablation: converged runs, or bits per token."""
    rows = []
    for view in views:
        row = {"Task": f"`{view.results.ablations[0].dataset}`"}
        for ablation in view.results.ablations:
            outcome = view.find("converged", ablation) or view.find("test_bits", ablation)
            row.setdefault(view.describe(ablation), str(outcome or ""))
            ceiling = view.find("order_blind_ceiling", ablation)
            row["Ceiling"] = ceiling.number() if ceiling else row.get("Ceiling", "")
        rows.append(row)
    table = pd.DataFrame(rows).fillna("")
    return table[[*table.columns.drop("Ceiling"), "Ceiling"]]
