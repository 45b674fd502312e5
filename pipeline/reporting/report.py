"""The report of an experiment, in Markdown: a summary that reads well on a code host, and the details."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from pipeline.measurement.registry import Measurement
from pipeline.params.score import EXACT_MATCH
from pipeline.reporting import contrasts, mechanism, outcomes  # noqa: F401 (they register their statistics)
from pipeline.reporting.estimates import STATISTICS, Estimates, complete_columns
from pipeline.reporting.page import Picture, heading_anchor, show_picture, to_markdown
from pipeline.reporting.pictures import task_outcomes
from pipeline.reporting.results import Results
from pipeline.reporting.sections import DETAILS, RESULTS, Section, measurement_section, switch_sections
from pipeline.reporting.tables import TaskView, outcomes_by_task
from pipeline.reporting.wording import format_number, percent

TITLE = "How do transformers without positional encoding know the order of their input?"
MAX_TASKS_IN_FULL = 3
"""Largest number of tasks whose results stand in the summary; more tasks are compared with each other there."""
SOURCES = """
`dvc repro report` makes every number and figure here from the tables beside it, in seconds and with the same bytes:
[runs.csv](runs.csv) has a row per run, [learning_curves.csv](learning_curves.csv) every evaluation during training,
[symmetry.csv](symmetry.csv) the check of the symmetry, and `measurements.csv.bz2` every measured number. Every number
of these pages is a row of [estimates.csv](estimates.csv); [ablations.csv](ablations.csv) has some of them by ablation.
"""


@dataclass(frozen=True)
class Report:
    """The pages of a report in Markdown, and the figures that they show as `figures/<name>.webp`."""

    summary: str
    details: str
    pictures: Sequence[Picture]


def build_report(
    results: Results,
    estimates: Estimates,
    measurements: Mapping[str, Measurement],
    answers: str,
    left_out: Sequence[str],
) -> Report:
    """Build the pages of an experiment.

    The summary opens with the prose `answers`, which refers to the ablations `left_out`, but the experiment lacks them.
    """
    views = [TaskView(results.of_task(task), estimates) for task in results.tasks]
    compares_tasks = len(views) > MAX_TASKS_IN_FULL
    pictures: list[Picture] = []
    summary = [f"# {TITLE}", *alarms(estimates), answers.strip()]
    if left_out:
        names = ", ".join(map("`{}`".format, left_out))
        summary.append(f"(Left out above, because this experiment has no such ablation: {names}.)")
    if compares_tasks:
        picture = task_outcomes(views)
        pictures.append(picture)
        summary += ["## Results by task", *show_picture(picture), to_markdown(outcomes_by_task(views))]
    details, links = ["# Details"], []
    for view in views:
        name, chapter = view.results.ablations[0].dataset, ""
        prefix, suffix = (f"{name}-", f" ({name})") if len(views) > 1 else ("", "")
        for section, texts, section_pictures in build_sections(view, measurements, prefix):
            if compares_tasks and section.chapter not in ("Results", "What each switch changes"):
                continue  # `estimates.csv` has everything
            pictures += section_pictures
            heading = section.title + suffix
            is_verdict = section.title == "What is decided"
            if section.chapter == "Results" and (not compares_tasks or is_verdict):
                summary += [f"## {heading}", "" if is_verdict else describe_task(view), *texts]
                continue
            if section.chapter != chapter:
                chapter = section.chapter
                details.append(f"## {chapter}{suffix}: {view.results.ablations[0].task.description}")
            details += [f"### {heading}", *texts]
            links.append(f"- [{heading}](details.md#{heading_anchor(heading)})")
    summary += ["## Where the numbers come from", SOURCES.strip(), *missing_measurements(results, measurements)]
    if compares_tasks or len(links) > 30:
        summary.append("Everything else: [details.md](details.md).")
    else:
        summary += ["## Everything else", "\n".join(links)]
    return Report("\n\n".join(filter(None, summary)) + "\n", "\n\n".join(details) + "\n", pictures)


def build_estimates(results: Results) -> pd.DataFrame:
    """Compute all registered statistics; columns as in `COLUMN_TYPES`."""
    computed = [compute(results) for compute in STATISTICS]
    tables = [rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(map(dict, rows)) for rows in computed]
    table = complete_columns(pd.concat([table for table in tables if len(table)], ignore_index=True))
    return contrasts.correct_p_values(table, results.comparisons)


def build_sections(
    view: TaskView, measurements: Mapping[str, Measurement], prefix: str
) -> Iterator[tuple[Section, list[str], list[Picture]]]:
    """Yield the sections of a task that have something to show, their paragraphs in Markdown, and their figures.

    The names of the figures begin with `prefix`.
    """
    measured = [measurement_section(measurement, view) for measurement in measurements.values()]
    for section in (*RESULTS, *switch_sections(), *measured, *DETAILS):
        texts, pictures = [section.note], []
        for picture in filter(None, (draw(view) for draw in section.figures)):
            pictures.append(replace(picture, name=prefix + picture.name))
            texts += show_picture(pictures[-1])
        tables = {caption: build(view) for caption, build in section.tables.items()}
        for caption, table in tables.items():
            texts += [caption, to_markdown(table)] if len(table) else []
        if len(texts) > 1:
            yield section, list(filter(None, texts)), pictures


def alarms(estimates: Estimates) -> Iterator[str]:
    """Yield a warning for each order-blind ablation with runs above the order-blind ceiling, which means a bug."""
    for row in estimates.select("runs_above_ceiling").to_dict("records"):
        if row["value"]:
            yield (
                f"> **BUG IN THE INSTRUMENT.** `{row['ablation']}` is order-blind by construction, but "
                f"{row['value'] * row['n']:.0f} of its runs beat what is possible without order (p = "
                f"{format_number(row['p'], 'p')}). No number of this report can be trusted until the bug is found."
            )


def missing_measurements(results: Results, measurements: Mapping[str, Measurement]) -> Iterator[str]:
    """Yield a sentence that names the measurements whose numbers the tables of the experiment do not have."""
    measured = {quantity.partition(".")[0] for quantity in results.measured["quantity"].unique()}
    has_answers = any(task.score == EXACT_MATCH for task in results.tasks.values())
    expected = [name for name, measurement in measurements.items() if has_answers or not measurement.needs_answers]
    if missing := ", ".join(f"`{name}`" for name in expected if name not in measured):
        yield (
            f"Left out, because the tables lack these measurements: {missing}. `python -m pipeline repro` makes them."
        )


def describe_task(view: TaskView) -> str:
    """Return the task, the sizes of the data and the targets of an experiment in a sentence or two."""
    task, training = view.results.ablations[0].task, view.results.ablations[0].training
    text = (
        f"Task: {task.description}; {task.train_size:,} training examples, {task.test_size:,} test examples that share "
        f"no prompt with them. "
    )
    thresholds = {ablation.convergence_threshold for ablation in view.results.ablations}
    targets = " or ".join(percent(threshold) for threshold in sorted(filter(None, thresholds)))
    if targets and task.score == EXACT_MATCH:
        text += f"Target: {targets} in {training.converged_for} evaluations in a row. "
    if training.schedule == "constant":
        return f"{text}Learning rate: constant."
    end, steps = percent(training.final_learning_rate), training.decay_steps or training.steps
    return f"{text}Learning rate: a cosine to {end} over {steps:,} steps."
