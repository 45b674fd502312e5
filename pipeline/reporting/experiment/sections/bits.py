"""Results by ablation for a task scored in bits per token, and the value of order."""

from functools import partial

from pipeline import switches
from pipeline.params.score import BITS
from pipeline.reporting.claims import Claim
from pipeline.reporting.experiment.figures import outcomes
from pipeline.reporting.experiment.section import (
    CellFunction,
    SectionContent,
    diverged_run_column,
    register_section,
    table_by_ablation,
)
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure
from pipeline.reporting.wording import format_cell


@register_section("results", 0, "Results by ablation", scores=[BITS])
def build_bits_section(results: TaskResults) -> SectionContent:
    """Build the section with a table of all ablations, their test bits per token and the value of order."""
    usual = switches.find_unmentioned_values(results.ablations)
    with_value = [ablation for ablation in results.ablations if results.order_value(ablation)]
    columns: dict[str, CellFunction] = {"Test bits per token": results.mean_bits}
    if with_value:
        columns["Worth of order"] = lambda ablation: (
            format_cell(value) if (value := results.order_value(ablation)) else " "
        )
    if any(ablation.convergence_threshold is not None for ablation in results.ablations):
        columns |= {"Converged": results.converged_runs, "Steps": results.mean_steps}
    columns |= {
        "Budget": results.column_reader("budget", "steps"),
        **diverged_run_column(results),
        "What it is": lambda ablation: switches.describe_ablation(ablation, usual),
    }
    caption = "Means over seeds (t 95% interval)"
    if with_value:
        caption += ". Worth of order: how many more bits the shuffled data take, paired by seed"
    figure = Figure(
        "bits",
        "Test bits per token of every run by ablation",
        "A mark is a run (seed), as it was at its best evaluation on validation data. Bar: the mean with its t 95% "
        "interval.",
        partial(outcomes.draw_bits, results.runs, results.ablations),
    )
    claims = [Claim("opening", results.experiment_size(), {"task": results.task.description}, role="opening")]
    claims += [
        Claim(
            "worth",
            {"more": results.order_value(ablation), "bits": results.mean_bits(ablation)},
            {"ablation": ablation.name},
            "lead",
        )
        for ablation in with_value
    ]
    others = [ablation for ablation in results.usual_ablations() if ablation not in with_value]
    claims += [
        Claim("bits", {"bits": results.mean_bits(ablation)}, {"ablation": ablation.name}, "lead") for ablation in others
    ]
    words = {
        "task": results.task.description,
        "section": results.task,
        "worth": bool(with_value),
        "diverged": bool(diverged_run_column(results)),
    }
    return SectionContent(claims, [table_by_ablation(results.ablations, columns, caption)], [figure], words)
