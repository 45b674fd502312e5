"""The report of an experiment, in Markdown: a summary that reads well on a code host, and the details.

What the pages say stands in `templates/`: sections are headings, tables are calls of `TaskView`.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from pipeline import switches
from pipeline.measurement.registry import Measurement
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting import contrasts, mechanism, outcomes, pictures, tables  # noqa: F401 (three register their statistics)
from pipeline.reporting.estimates import STATISTICS, Estimates, complete_columns
from pipeline.reporting.page import Picture, render_template, show_picture
from pipeline.reporting.results import Results
from pipeline.reporting.style import draw_image
from pipeline.reporting.tables import TaskView

DEFAULT_TITLE = "How do transformers without positional encoding know the order of their input?"
MAX_TASKS_IN_FULL = 3
"""Largest number of tasks whose results stand in the summary; more tasks are compared with each other there."""


@dataclass(frozen=True)
class Report:
    """The pages of a report in Markdown, and the figures that they show."""

    title: str
    summary: str
    details: str
    images: Mapping[str, bytes]
    """Path of each figure, `figures/<name>.webp` -> its content."""
    failures: Sequence[str]
    """The sections and statistics that failed, each with its error."""


def build_report(
    results: Results,
    estimates: Estimates,
    measurements: Mapping[str, Measurement],
    answers: str,
    left_out: Sequence[str],
    failed_statistics: Sequence[str] = (),
    ablation_names: Iterable[str] = (),
) -> Report:
    """Build the pages of an experiment.

    The summary opens with the prose `answers`, which may begin with a title (`# ...`). It refers to the ablations
    `left_out`, but the experiment lacks them. A section that fails shows its error. The errors of `failed_statistics`
    stand at the top of the summary. If results of an earlier run were kept, the summary says so, and names those of
    `ablation_names` that have no results.
    """
    views = [TaskView(results.of_task(task), estimates) for task in results.tasks]
    images: dict[str, bytes] = {}
    failures = list(failed_statistics)

    def show(picture: Picture | None, view: TaskView | None = None) -> str:
        """Draw a figure (of one task) for the report and return its Markdown; empty without a figure."""
        if picture is None:
            return ""
        prefix = f"{view.dataset}-" if view and len(views) > 1 else ""
        images[f"figures/{prefix}{picture.name}.webp"] = draw_image(picture.draw)
        return f"{show_picture(replace(picture, name=prefix + picture.name))}\n"

    def section(heading: str, caller: Callable[[], str]) -> str:
        """Return a section in Markdown, or its error in red; empty if it shows no table, figure or error.

        Templates `call` this function. A section may contain others.
        """
        try:
            content = caller().strip()
        except Exception as error:  # whatever fails in one section, the others are shown
            failures.append(f"{heading.lstrip('# ')}: {describe_error(error)}")
            content = f"> **This section failed:** `{describe_error(error)}`"
        shows_something = re.search(r"(?m)^(\||!\[|>)", content)
        return f"{heading}\n\n{content}\n\n" if shows_something else ""

    heading = re.match(r"# (.+)\n*", answers)
    title, answers = (heading[1], answers[heading.end() :]) if heading else (DEFAULT_TITLE, answers)
    alarms = estimates.select("runs_above_ceiling")
    names = results.runs["ablation"].unique()
    kept = {*results.runs.loc[results.runs["kept"] == 1, "ablation"]} if "kept" in results.runs else set[str]()
    content = {
        "views": views,
        "compares_tasks": len(views) > MAX_TASKS_IN_FULL,
        "suffix": lambda view: f" ({view.dataset})" if len(views) > 1 else "",
        "measurements": measurements,
        "switches": [switch.field for switch in switches.SWITCHES],
        "show": show,
        "section": section,
        "pictures": pictures,
        "tables": tables,
    }
    details = render_template("details.md.j2", **content)
    summary = render_template(
        "summary.md.j2",
        **content,
        title=title,
        answers=answers.strip(),
        left_out=left_out,
        kept=sorted(kept),
        missing=[name for name in ablation_names if name not in names],
        alarms=alarms[alarms["value"] > 0].to_dict("records"),
        headings=re.findall("(?m)^### (.*)", details),
        unmeasured=missing_measurements(results, measurements),
        failures=list(failures),
    )
    return Report(title, summary, details, images, failures)


def build_estimates(results: Results, failures: list[str] | None = None) -> pd.DataFrame:
    """Compute all registered statistics; columns as in `COLUMN_TYPES`.

    A statistic that fails is left out and its error is added to `failures`; without this list the error is raised.
    """
    tables = []
    for compute in STATISTICS:
        try:
            rows = compute(results)
            tables.append(rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(map(dict, rows)))
        except Exception as error:
            if failures is None:
                raise
            failures.append(f"statistic {compute.__name__}: {describe_error(error)}")
    table = complete_columns(pd.concat([table for table in tables if len(table)], ignore_index=True))
    return contrasts.correct_p_values(table, results.comparisons)


def describe_error(error: Exception) -> str:
    """Return the type and the first line of an error, without characters that would end code in Markdown."""
    return f"{type(error).__name__}: {error}".splitlines()[0].replace("`", "'")[:200]


def missing_measurements(results: Results, measurements: Mapping[str, Measurement]) -> list[str]:
    """Return the names of the measurements whose numbers the tables of the experiment do not have."""
    measured = {quantity.partition(".")[0] for quantity in results.measured["quantity"].unique()}
    has_answers = any(task.score == EXACT_MATCH for task in results.tasks.values())
    expected = [name for name, measurement in measurements.items() if has_answers or not measurement.needs_answers]
    return [name for name in expected if name not in measured]
