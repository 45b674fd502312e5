"""What a section of the report is: a function of the results that gives a finding, in a file of `findings/`. Beside it
lies a template of the same name, which has its sentences. It is found by itself, and stands where it says."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from matplotlib import figure as matplotlib_figure

from pipeline import switches
from pipeline.params import Ablation
from pipeline.params.score import SCORES, Score
from pipeline.reporting.claims import Claim, Estimate
from pipeline.reporting.experiment.comparisons import single_layer_pairs
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure, Table
from pipeline.reporting.wording import brief, number

Chapter = Literal["results", "questions", "mechanism", "details"]
CHAPTERS: dict[Chapter, str] = {
    "results": "Results",
    "questions": "The questions",
    "mechanism": "Where the order comes from",
    "details": "Details",
}
"""In the order of the page, with their titles."""
LINES = "Line: mean over seeds, band: from the least to the most; in colour as trained."
DOTS = "A dot per seed, in colour as trained."
PANELS = 12
"""The most that a figure of a panel per ablation shows."""


@dataclass(frozen=True)
class SectionContent:
    """What there is to say, to tabulate and to show. Sentences and explanation are in the template."""

    claims: Sequence[Claim] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    words: Mapping[str, Any] = field(default_factory=dict)
    """For the template's `explanation`."""


@dataclass(frozen=True)
class SectionSpec:
    """A section of the report, and what makes it."""

    name: str
    """Of its file, its template and its claims."""
    chapter: Chapter
    order: int
    """Within the chapter; smaller first."""
    title: str
    measurements: Sequence[str]
    """The measurements that it tells of; one that no section tells of gets one of its own."""
    scores: Collection[Score]
    """It tells of tasks that are scored by one of these."""
    build: Callable[[TaskResults], SectionContent | None]
    """None where the grid has nothing to say about it."""


SECTIONS: list[SectionSpec] = []
"""Those whose files were imported; `findings/` imports all."""


def section(
    chapter: Chapter,
    order: int,
    title: str,
    *,
    measurements: Sequence[str] = (),
    scores: Collection[Score] = SCORES,
) -> Callable[[Callable[[TaskResults], SectionContent | None]], Callable[[TaskResults], SectionContent | None]]:
    """Mark a function as a section of the report, under the name of its file."""

    def register(
        build: Callable[[TaskResults], SectionContent | None],
    ) -> Callable[[TaskResults], SectionContent | None]:
        name = build.__module__.rpartition(".")[2]
        SECTIONS.append(SectionSpec(name, chapter, order, title, measurements, scores, build))
        return build

    return register


Column = Callable[[Ablation], Estimate | str | None]


def table_by_ablation(ablations: Sequence[Ablation], columns: Mapping[str, Column], caption: str = "") -> Table:
    """A row per ablation; a column is a function of the ablation, which gives an estimate or words."""
    rows = [[f"`{ablation.name}`", *(brief(column(ablation)) for column in columns.values())] for ablation in ablations]
    return Table(["Ablation", *columns], rows, caption)


def diverged_column(results: TaskResults) -> dict[str, Column]:
    """How many runs of each ablation diverged; no column where none did."""
    if not any(map(results.diverged, results.ablations)):
        return {}
    return {"Diverged": lambda ablation: brief(found) if (found := results.diverged(ablation)) else " "}


def difference_tables(
    results: TaskResults, measure: str, pairs: Sequence[tuple[Ablation, Ablation]], caption: str
) -> list[Table]:
    """What `comparisons.csv` says of these pairs; none where they share no seed."""
    rows = []
    for first, second in pairs:
        if found := results.compared(measure, first, second):
            names = f"`{first.name}` − `{second.name}`"
            decided = [brief(results.corrected_p(found)), brief(results.corrected_log_rank_p(found))]
            rows.append([names, brief(found), str(found.n), number(found.budget or 0, "steps"), *decided])
    headers = [
        "Ablations",
        "Mean difference (95% interval)",
        "Shared seeds",
        "Budget",
        "p (declared, Holm)",
        "log-rank p",
    ]
    return [Table(headers, rows, caption)] if rows else []


def panel_figure(
    results: TaskResults,
    name: str,
    title: str,
    caption: str,
    draw: Callable[[Sequence[Ablation]], matplotlib_figure.Figure],
    *,
    among: Sequence[Ablation] | None = None,
) -> Figure:
    """A figure of a panel per ablation, of all or `among` these: where they are many, of those that are compared by
    declaration or lack no residual connection, and its caption says so."""
    ablations = results.ablations if among is None else among
    compared = {*results.declared["first"], *results.declared["second"]}
    worth = sorted(ablations, key=lambda ablation: -2 * (ablation.name in compared) - switches.is_intact(ablation))[
        :PANELS
    ]
    shown = [ablation for ablation in ablations if ablation in worth]
    if len(shown) < len(ablations):
        caption += f" Here {len(shown)} of {len(ablations)} ablations; the tables have all."
    return Figure(name, title, caption, partial(draw, shown))


LayerEstimates = Callable[[Ablation, Ablation], Mapping[str, Estimate | None]]


def single_layer_estimates(
    ablations: Sequence[Ablation], about: LayerEstimates, *, optional: Collection[str] = ()
) -> tuple[dict[str, Estimate | None], list[tuple[str, str]]]:
    """What is to be said of each ablation that lacks the connections of one layer, beside the same ablation with
    all: the
    numbers of `about`, each called `at_<layer>_<its name>`, and for each layer `at_<layer>` and which it is in words. A
    layer of which a number is missing that is not `optional` is left out."""
    estimates: dict[str, Estimate | None] = {}
    layers = []
    for ablation, whole in single_layer_pairs(ablations):
        (layer,) = ablation.model.residual_free.layers
        found = about(ablation, whole)
        if all(one for name, one in found.items() if name not in optional):
            estimates |= {f"at_{layer}_{name}": one for name, one in found.items()}
            layers.append((f"at_{layer}", switches.ordinal(layer, ablation.model.layers)))
    return estimates, layers


def depth_columns(
    results: TaskResults, measurement: str, value: str, depths: Sequence[int], **keys: Any
) -> dict[str, Column]:
    """A column per depth: the mean over the trained members."""

    def at(depth: int) -> Column:
        return lambda ablation: results.mean(measurement, value, "number", ablation, depth=depth, **keys)

    return {f"Depth {depth}": at(depth) for depth in depths}
