"""Stage `report`: the tables that `collect` wrote, and answers.md.j2 -> estimates, pages and figures in reports/."""

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import files, switches
from pipeline.errors import RunError
from pipeline.measurement.catalogue import measurements
from pipeline.params import Params
from pipeline.reporting import page, prose, report
from pipeline.reporting.estimates import ESTIMATES, Estimates
from pipeline.reporting.results import Results
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
    """Write the report of an experiment below `reports/`, from the tables there alone.

    All files are built and written to a temporary folder before the first one is replaced.

    Raises:
        UserError: a table is missing or of other runs, or the answers refer to an unknown number.
        RunError: a section or a statistic failed; the rest of the report was written.
    """
    results = Results.read(params, REPORTS)
    failed_statistics: list[str] = []
    estimates = Estimates(report.build_estimates(results, failed_statistics))
    functions = prose.References(estimates).functions()
    template = ANSWERS.read_text("utf-8") if ANSWERS.exists() else ""
    answers, left_out = prose.render_paragraphs(template, functions, name=str(ANSWERS))
    content = report.build_report(
        results, estimates, measurements(), answers, left_out, failed_statistics, params.ablations
    )
    ablations = pivot_by_ablation(results, estimates)
    html = page.render_html(content.title, f"{content.summary}\n{content.details}", content.images)
    with tempfile.TemporaryDirectory(dir=REPORTS, prefix=".report.") as temporary:
        new = Path(temporary)
        files.write_csv(new / ESTIMATES, estimates.table)
        files.write_csv(new / "ablations.csv", ablations)
        files.write_json(new / "metrics.json", collect_metrics(ablations))
        (new / "figures").mkdir()
        for name, image in content.images.items():
            files.write_bytes(new / name, image)
        files.write_text(new / "summary.md", content.summary)
        files.write_text(new / "details.md", content.details)
        files.write_text(new / "index.html", html)
        for path in sorted(new.iterdir()):
            if path.is_dir() and (REPORTS / path.name).exists():  # its old figures may be of sections that are gone
                (REPORTS / path.name).rename(new / f"old {path.name}")
            path.replace(REPORTS / path.name)
    if content.failures:
        failed = "; ".join(content.failures)
        raise RunError(f"report: failed in part ({failed}); the rest is in {REPORTS / 'index.html'}")
    print(f"The report: {REPORTS / 'index.html'}")


def pivot_by_ablation(results: Results, estimates: Estimates) -> pd.DataFrame:
    """Return `ablations.csv`: a row per ablation with the estimates that people look for first, and its switches."""
    rows = []
    for ablation in results.ablations:
        row: dict[str, Any] = {"ablation": ablation.name, "runs": len(results.runs_of(ablation))}
        for quantity, suffixes in PIVOTED.items():
            estimate = estimates.find(quantity, ablation=ablation.name, versus="")
            for column, suffix in suffixes.items():
                is_count = estimate and estimate.row["unit"] == "runs" and column == "value"
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
