"""Stage `report`: the tables that `collect` wrote, and answers.md.j2 -> estimates, pages and figures in reports/."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import files, switches
from pipeline.measurement.catalogue import measurements
from pipeline.params import Params
from pipeline.reporting import page, prose, report
from pipeline.reporting.estimates import ESTIMATES, Estimates
from pipeline.reporting.results import Results
from pipeline.reporting.style import draw_image
from pipeline.stages import REPORTS

ANSWERS = Path("answers.md.j2")
"""Template of the prose with which the summary opens, in the folder of the experiment."""
WITH_INTERVAL = {"value": "", "low": "_low", "high": "_high"}
PIVOTED = {
    "converged": WITH_INTERVAL,
    "restricted_steps": WITH_INTERVAL,
    "test_exact_match": {"value": "_median", "low": "_min", "high": "_max"},
    "test_bits": WITH_INTERVAL,
    "test_exact_match_mean": {"value": ""},
    "order_blind_ceiling": {"value": ""},
    "still_rising": {"value": ""},
    "diverged": {"value": ""},
    "parameters": {"value": ""},
    "flops_per_step": {"value": ""},
    "flops_spent": {"value": ""},
}
"""Quantities in `ablations.csv`, and the columns of `estimates.csv` from which their columns come, by suffix."""


def run(params: Params) -> None:
    """Write the report of an experiment below `reports/`, `index.html` last, from the tables there alone.

    Raises:
        UserError: a table is missing or of other runs, or the answers refer to an unknown number.
    """
    results = Results.read(params, REPORTS)
    estimates = Estimates(report.build_estimates(results))
    functions = prose.References(estimates).functions()
    template = ANSWERS.read_text() if ANSWERS.exists() else ""
    answers, left_out = prose.render_paragraphs(template, functions, name=str(ANSWERS))
    content = report.build_report(results, estimates, measurements(), answers, left_out)
    images = {f"figures/{picture.name}.webp": draw_image(picture.draw) for picture in content.pictures}
    ablations = pivot_by_ablation(results, estimates)

    shutil.rmtree(REPORTS / "figures", ignore_errors=True)  # may have figures of sections that are gone
    files.write_csv(REPORTS / ESTIMATES, estimates.table)
    files.write_csv(REPORTS / "ablations.csv", ablations)
    files.write_json(REPORTS / "metrics.json", collect_metrics(ablations))
    for name, image in images.items():
        files.write_bytes(REPORTS / name, image)
    files.write_text(REPORTS / "summary.md", content.summary)
    files.write_text(REPORTS / "details.md", content.details)
    html = page.render_html(report.TITLE, f"{content.summary}\n{content.details}", images)
    files.write_text(REPORTS / "index.html", html)
    print(f"The report: {REPORTS / 'index.html'}")


def pivot_by_ablation(results: Results, estimates: Estimates) -> pd.DataFrame:
    """Return `ablations.csv`: a row per ablation with the estimates that people look for first, and its switches."""
    rows = []
    for ablation in results.ablations:
        row: dict[str, Any] = {"ablation": ablation.name, "runs": len(results.runs_of(ablation))}
        for quantity, suffixes in PIVOTED.items():
            estimate = estimates.find(quantity, ablation=ablation.name, versus="")
            for column, suffix in suffixes.items():
                is_count = estimate and estimate.unit == "runs" and column == "value"
                row[quantity + suffix] = estimate and (estimate.count() if is_count else estimate.row[column])
        rows.append(
            row | {"budget": ablation.training.steps, "task": ablation.dataset} | switches.switch_columns(ablation)
        )
    return pd.DataFrame(rows).dropna(axis="columns", how="all")


def collect_metrics(ablations: pd.DataFrame) -> dict[Any, dict[Any, float]]:
    """Return the content of `metrics.json`, the numbers for `dvc metrics`: quantity -> ablation -> value."""
    decimals = {"restricted_steps": 1, "converged": 1, "test_bits": 3}
    table = ablations.set_index("ablation").reindex(columns=list(decimals)).astype(float).round(decimals)
    return {quantity: values.dropna().to_dict() for quantity, values in table.dropna(how="all", axis=1).items()}
