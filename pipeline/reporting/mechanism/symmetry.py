"""Whether predictions are as blind to order as the architecture says."""

import pandas as pd

from pipeline.measurement.symmetry import TOLERANCE
from pipeline.reporting import figures
from pipeline.reporting.cells import in_groups
from pipeline.reporting.evidence import each
from pipeline.reporting.mechanism import panels
from pipeline.reporting.mechanism.finding import Finding, Measured
from pipeline.reporting.mechanism.generic import brief, counted
from pipeline.reporting.mechanism.pairs import initial, trained
from pipeline.reporting.page import Figure, Section, Table
from pipeline.reporting.wording import count

TITLE = "Is the prediction blind to order?"
CLAIM = (
    "From the architecture alone: without positional encoding the prediction for token n+1 cannot depend on the order "
    "of tokens 1 to n−1 if attention is full, at any depth, or if it is causal and there is one layer; everything else "
    "can tell. Checked in float64 by permuting the earlier tokens of validation prompts, for every member before and "
    "after training."
)
CAPTION = "Maximum over seeds, then means over seeds as trained (bootstrap 95% interval)"
PICTURE = Figure(
    "symmetry.png",
    "Largest change of a logit when earlier tokens are permuted, by cell",
    "A dot per member, coloured as trained. Left of the dotted line nothing moves but rounding; an exact 0 stands at "
    "the left edge.",
)


def section(measured: Measured) -> Finding:
    """The section, from the table `symmetry`."""
    table = measured.tables.get("symmetry", pd.DataFrame())
    if table.empty:
        return Finding(Section(TITLE, [CLAIM, "Nothing was measured."], level=3), None)
    invariant = table["max_logit_change"] <= TOLERANCE
    predicted = table["order_blind_predicted"] == 1
    agree = invariant == predicted
    text = f"Prediction and measurement agree for {count(int(agree.sum()), len(table))} members and moments."
    if predicted.any():
        text += f" Where blindness is predicted, no logit moves by more than {_largest(table[predicted]):.1e}."
    if (~predicted).any():
        least = table.loc[~predicted, "max_logit_change"].min()
        text += f" Everywhere else some logit moves, by {least:.1e} at least."
    paragraphs = [CLAIM, text]
    if not agree.all():
        names = ", ".join(f"`{name}`" for name in sorted(set(table.loc[~agree, "ablation"])))
        paragraphs.append(f"**A bug in the instrument: {names} is not what the architecture says.**")
    cells = pd.concat([members for _, members in in_groups(measured.cells)])
    rows = [_row(cell["ablation"], table[table["ablation"] == cell["ablation"]]) for cell in each(cells)]
    headers = ["Cell", "Predicted", "Largest logit change", "before training", "Total variation", "Changed arg-maxes"]
    short = (
        "Every model is as blind to order as its architecture says: permuting earlier tokens moves no logit of "
        f"{_cells(table, predicted)}, and moves some of {_cells(table, ~predicted)}."
        if agree.all() and predicted.any() and (~predicted).any()
        else None
    )
    return Finding(
        Section(
            TITLE,
            paragraphs,
            [PICTURE],
            [Table(headers, rows, caption=counted(CAPTION, table))],
            level=3,
        ),
        short,
        {PICTURE.name: figures.png(lambda: _draw(table, cells))},
    )


def _draw(table: pd.DataFrame, cells: pd.DataFrame) -> figures.Figure:
    label = "Largest change of a logit (float64)"
    return panels.dots(
        table, cells, "max_logit_change", label=label, log=True, line=(TOLERANCE, f"rounding ({TOLERANCE:g})")
    )


def _cells(table: pd.DataFrame, which: "pd.Series[bool]") -> str:
    names = table.loc[which, "ablation"].nunique()
    return (
        f"{names} order-blind cell{'s' * (names != 1)}"
        if (table.loc[which, "order_blind_predicted"] == 1).all()
        else (f"the other {names}")
    )


def _largest(rows: pd.DataFrame) -> float:
    return float(rows["max_logit_change"].max())


def _row(name: str, rows: pd.DataFrame) -> list[str]:
    if rows.empty:
        return [f"`{name}`", "–", "–", "–", "–", "–"]
    after, before = trained(rows), initial(rows)
    return [
        f"`{name}`",
        "blind" if rows["order_blind_predicted"].iloc[0] else "sees order",
        f"{_largest(after):.1e}" if len(after) else "–",
        f"{_largest(before):.1e}" if len(before) else "–",
        _mean(after["total_variation"]),
        _mean(after["changed_argmax_share"]),
    ]


def _mean(values: "pd.Series[float]") -> str:
    return brief(values, digits=2)
