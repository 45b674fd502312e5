"""Exact match by position of the answer and by stratum of the task."""

from functools import partial

from pipeline.params.score import EXACT_MATCH
from pipeline.reporting.experiment import tables
from pipeline.reporting.experiment.figures import outcomes
from pipeline.reporting.experiment.section import SectionContent, register_section
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure


@register_section("details", 20, "Where the errors are", scores=[EXACT_MATCH])
def build_breakdown_section(results: TaskResults) -> SectionContent:
    """Build the section with heat maps of the share of right answers, by position of the answer and by stratum."""
    task = results.task
    by_position = tables.mean_by_position(results.runs, task.answer_unit)
    names = [task.answer_position_names[key - 1] for key in sorted(set(by_position["key"]))]
    breakdowns = [(task.answer_unit, by_position, names, f"Answer {task.answer_unit}, in the order produced")]
    for stratum in task.strata:
        of_stratum = tables.mean_by_stratum(results.runs, stratum)
        breakdowns.append((stratum, of_stratum, list(map(str, sorted(set(of_stratum["key"])))), stratum.capitalize()))
    figures = [
        Figure(
            f"by_{name}",
            f"Share of right answers by ablation. {label}",
            "Mean over seeds.",
            partial(outcomes.draw_heat_map, table, results.ablations, columns, label),
        )
        for name, table, columns, label in breakdowns
    ]
    return SectionContent(figures=figures)
