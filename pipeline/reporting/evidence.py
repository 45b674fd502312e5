"""What the answers to the questions are written from, and how a cell's results are said in words."""

from dataclasses import dataclass, field

import pandas as pd

from pipeline.reporting import cells as grid
from pipeline.reporting.page import Table
from pipeline.reporting.wording import count, interval, p_value, percent, plural


@dataclass(frozen=True)
class Evidence:
    """What the answers are written from."""

    runs: pd.DataFrame
    """A row per (ablation, seed)."""
    cells: pd.DataFrame
    """`tables.ablations` of them."""
    ceiling: float | None
    """The best exact match of any order-blind predictor of this task."""

    def base(self, **properties: object) -> pd.DataFrame:
        """The cells with these properties, of the size and optimizer that most have, with every residual."""
        shared = {str(key): value for key, value in grid.base(self.cells).items()}
        shared |= {"residual_free_attention": "", "residual_free_mlp": ""}
        return grid.find(self.cells, **(shared | properties))


@dataclass(frozen=True)
class Answer:
    """A question, its answer in one sentence (None where the grid has no cell for it), and the evidence."""

    question: str
    short: str | None
    paragraphs: list[str]
    tables: list[Table] = field(default_factory=list)


def outcome(cell: pd.Series) -> str:
    """`converged in 3 of 3 runs (median test exact match 99.7%)`."""
    runs = "run" if cell["runs"] == 1 else "runs"
    median = percent(cell["test_exact_match_median"])
    return f"converged in {cell['converged']} of {cell['runs']} {runs} (median test exact match {median})"


def in_short(cell: pd.Series) -> str:
    """`2 of 3 converged (95% interval 9% to 99%), median test exact match 99.1%`."""
    between = interval(cell["converged_low"], cell["converged_high"])
    median = percent(cell["test_exact_match_median"])
    return f"{cell['converged']} of {cell['runs']} converged (95% interval {between}), median test exact match {median}"


def result(cell: pd.Series) -> str:
    """Everything about one cell in a sentence: k of n with its interval, steps, median, min and max."""
    text = f"`{cell['ablation']}` converged in {count(int(cell['converged']), int(cell['runs']))}"
    if cell["converged"]:
        text += f", after a median of {cell['steps_to_converge_median']:,.0f} steps"
    if cell["diverged"]:
        text += f" ({cell['diverged']} diverged)"
    median, low, high = (percent(cell[f"test_exact_match_{key}"]) for key in ("median", "min", "max"))
    spread = f" (min {low}, max {high})" if cell["runs"] > 1 else ""
    return f"{text}; median test exact match {median}{spread}."


def against_ceiling(cell: pd.Series) -> str:
    """Where an order-blind cell lies against the ceiling; empty for any other cell."""
    ceiling, above = cell["order_blind_ceiling"], cell["runs_above_ceiling"]
    if pd.isna(ceiling):
        return ""
    test = f"smallest one-sided binomial {p_value(cell['ceiling_p_value'])}, Holm-corrected"
    if above:
        return (
            f"**{above} of {plural(cell['runs'], 'run')} beat the order-blind ceiling of {percent(ceiling)}** "
            f"({test}): no such model can, so this is a bug in the instrument and every "
            f"number here is suspect until it is found."
        )
    return (
        f"It is order-blind by construction; the best possible without order is {percent(ceiling)}, and no run beat it "
        f"beyond chance ({test})."
    )


def each(cells: pd.DataFrame) -> list[pd.Series]:
    return [cell for _, cell in cells.iterrows()]


def lacks(what: str) -> str:
    return f"This grid lacks a cell with {what}."


def unanswered(question: str, what: str) -> Answer:
    return Answer(question, None, [f"This grid does not answer it: it lacks a cell with {what}."])
