"""Sections of the report: each is a function from the results of a task to claims, tables and figures.

Each has a file in `sections/`, and beside it a template of the same name with its sentences.
"""

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
from pipeline.reporting.wording import format_cell, format_number

Chapter = Literal["results", "questions", "mechanism", "details"]
CHAPTERS: dict[Chapter, str] = {
    "results": "Results",
    "questions": "The questions",
    "mechanism": "Where the order comes from",
    "details": "Details",
}
"""Chapter of the report -> title of the chapter, in the order of the page."""
LINES_CAPTION = "Line: mean over seeds, band: from the least to the most; in colour as trained."
DOTS_CAPTION = "A dot per seed, in colour as trained."
MAX_PANELS = 12
"""Largest number of panels of a figure that has a panel per ablation."""


@dataclass(frozen=True)
class SectionContent:
    """The claims, tables and figures of a section of the report; its text is in a template."""

    claims: Sequence[Claim] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    words: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the macro `explanation` in the section's template."""


SectionBuilder = Callable[[TaskResults], SectionContent | None]
"""Function that builds a section from the results of a task; None if the task has no ablations for the section."""


@dataclass(frozen=True)
class SectionSpec:
    """A registered section: its place on the page, and the function that builds its content."""

    name: str
    """Name of the section: of its Python file, of its template file, and in the claims of `claims.json`."""
    chapter: Chapter
    position: int
    """Position of the section within its chapter; smaller numbers come first."""
    title: str
    measurements: Sequence[str]
    """Names of the measurements that the section reports; others get a section made by `build_generic_section`."""
    scores: Collection[Score]
    """Scores of the tasks that have the section; it is left out for tasks with other scores."""
    build_content: SectionBuilder


REGISTERED_SECTIONS: list[SectionSpec] = []
"""All sections of the report that are registered; complete once `sections/` has imported all its files."""


def register_section(
    chapter: Chapter,
    position: int,
    title: str,
    *,
    measurements: Sequence[str] = (),
    scores: Collection[Score] = SCORES,
) -> Callable[[SectionBuilder], SectionBuilder]:
    """Return a decorator that registers a function as the builder of a report section, named as the function's file."""

    def register_builder(build: SectionBuilder) -> SectionBuilder:
        name = build.__module__.rpartition(".")[2]
        REGISTERED_SECTIONS.append(SectionSpec(name, chapter, position, title, measurements, scores, build))
        return build

    return register_builder


CellFunction = Callable[[Ablation], Estimate | str | None]
"""Function that returns the content of a table's cell for an ablation."""


def table_by_ablation(ablations: Sequence[Ablation], columns: Mapping[str, CellFunction], caption: str = "") -> Table:
    """Return a table with a row per ablation; `columns` maps each header to the function that fills its cells."""
    rows = [
        [f"`{ablation.name}`", *(format_cell(column(ablation)) for column in columns.values())]
        for ablation in ablations
    ]
    return Table(["Ablation", *columns], rows, caption)


def diverged_run_column(results: TaskResults) -> dict[str, CellFunction]:
    """Return a table column with the number of diverged runs of each ablation; an empty dict if no run diverged."""
    if not any(map(results.diverged_runs, results.ablations)):
        return {}
    return {"Diverged": lambda ablation: format_cell(count) if (count := results.diverged_runs(ablation)) else " "}


def difference_tables(
    results: TaskResults, measure: str, pairs: Sequence[tuple[Ablation, Ablation]], caption: str
) -> list[Table]:
    """Return a table of the mean differences between paired ablations in a measure, or no table if no pair has one."""
    rows = []
    for first, second in pairs:
        if difference := results.mean_difference(measure, first, second):
            names = f"`{first.name}` − `{second.name}`"
            budget = format_number(difference.budget or 0, "steps")
            p_values = [
                format_cell(results.corrected_p_value(difference)),
                format_cell(results.corrected_log_rank_p_value(difference)),
            ]
            rows.append([names, format_cell(difference), str(difference.n), budget, *p_values])
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
    candidates: Sequence[Ablation] | None = None,
) -> Figure:
    """Return a figure with a panel per ablation, for all ablations of a task or only those in `candidates`.

    Of more than `MAX_PANELS` ablations, those in declared comparisons are chosen first, then intact ones, and the
    caption gives their number.
    """
    ablations = results.ablations if candidates is None else candidates
    declared = {*results.declared_comparisons["first"], *results.declared_comparisons["second"]}

    def display_priority(ablation: Ablation) -> tuple[bool, bool]:
        return ablation.name not in declared, not switches.is_intact(ablation)

    chosen = sorted(ablations, key=display_priority)[:MAX_PANELS]
    shown = [ablation for ablation in ablations if ablation in chosen]
    if len(shown) < len(ablations):
        caption += f" Here {len(shown)} of {len(ablations)} ablations; the tables have all."
    return Figure(name, title, caption, partial(draw, shown))


PairReader = Callable[[Ablation, Ablation], Mapping[str, Estimate | None]]
"""Function that reads named estimates for an ablation that lacks residual connections and its intact counterpart."""


def collect_single_layer_estimates(
    ablations: Sequence[Ablation], read_estimates: PairReader, *, optional_names: Collection[str] = ()
) -> tuple[dict[str, Estimate | None], list[tuple[str, str]]]:
    """Collect the estimates for every ablation that lacks the residual connections of a single layer.

    A layer is left out if one of its estimates is None, except those named in `optional_names`.

    Returns:
        The estimates by name, `at_<layer>_<name>`, and for each layer `at_<layer>` with the layer in words.
    """
    estimates: dict[str, Estimate | None] = {}
    layers = []
    for ablation, intact in single_layer_pairs(ablations):
        (layer,) = ablation.model.residual_free.layers
        numbers = read_estimates(ablation, intact)
        if all(estimate for name, estimate in numbers.items() if name not in optional_names):
            estimates |= {f"at_{layer}_{name}": estimate for name, estimate in numbers.items()}
            layers.append((f"at_{layer}", switches.layer_ordinal(layer, ablation.model.layers)))
    return estimates, layers


def depth_columns(
    results: TaskResults, measurement: str, value: str, depths: Sequence[int], **keys: Any
) -> dict[str, CellFunction]:
    """Return a table column per depth with the mean of a measured value after training; `keys` fixes key columns."""

    def depth_column(depth: int) -> CellFunction:
        return lambda ablation: results.measured_mean(measurement, value, "number", ablation, depth=depth, **keys)

    return {f"Depth {depth}": depth_column(depth) for depth in depths}
