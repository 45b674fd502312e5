"""Check that every model is as blind to order as its architecture predicts."""

from functools import partial
from typing import Any

from pipeline.measurement.common.interventions import LOGIT_TOLERANCE
from pipeline.measurement.common.order_blind import is_order_blind
from pipeline.reporting.claims import Claim, Estimate, Statistic
from pipeline.reporting.experiment.figures import measured
from pipeline.reporting.experiment.section import CellFunction, SectionContent, register_section, table_by_ablation
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.reporting.page import Figure


@register_section("mechanism", 10, "Is the prediction blind to order?", measurements=["symmetry"])
def build_symmetry_section(results: TaskResults) -> SectionContent | None:
    """Build the section on blindness to order: the prediction from the architecture beside the measured logit change.

    (A run that contradicts its prediction stops the stage `analyze`.)
    """
    table = results.measurement_table("symmetry")
    if table.empty:
        return None
    names = [ablation.name for ablation in results.ablations]

    def read_logit_change(statistic: Statistic, **where: Any) -> Estimate | None:
        return results.read_estimate("symmetry.csv", "max_logit_change", "logit", where, statistic=statistic)

    def count_runs(*, order_blind_predicted: int) -> Estimate | None:
        where = {"ablation": names, "order_blind_predicted": order_blind_predicted, "trained": 1}
        return results.read_estimate("symmetry.csv", "seed", "count", where, statistic="rows")

    estimates = {
        "blind": count_runs(order_blind_predicted=1),
        "most": read_logit_change("max", ablation=names, order_blind_predicted=1),
        "seeing": count_runs(order_blind_predicted=0),
        "least": read_logit_change("min", ablation=names, order_blind_predicted=0),
    }

    def mean_column(value: str) -> CellFunction:
        return lambda ablation: results.measured_mean("symmetry", value, "number", ablation)

    columns: dict[str, CellFunction] = {
        "Predicted": lambda ablation: "blind" if is_order_blind(ablation.model) else "sees order",
        "Largest logit change": lambda ablation: read_logit_change("max", ablation=ablation.name, trained=1),
        "before training": lambda ablation: read_logit_change("max", ablation=ablation.name, trained=0),
        "Total variation": mean_column("total_variation"),
        "Changed arg-maxes": mean_column("changed_argmax_share"),
    }
    figure = Figure(
        "symmetry",
        "Largest change of a logit when earlier tokens are permuted, by ablation",
        "A dot per run, in colour after training. Left of the dotted line there are only rounding errors; an exact 0 "
        "is drawn at the left edge.",
        partial(
            measured.draw_dots_by_ablation, table, results.ablations, "max_logit_change", log_scale=True,
            axis_label="Largest change of a logit (float64)",
            reference=(LOGIT_TOLERANCE, f"rounding ({LOGIT_TOLERANCE:g})"),
        ),
    )  # fmt: skip
    caption = "Maximum over seeds, then means over seeds as trained (t 95% interval)"
    return SectionContent(
        [Claim("answer", estimates)], [table_by_ablation(results.ablations, columns, caption)], [figure]
    )
