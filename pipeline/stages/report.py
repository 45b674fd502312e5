"""Stage `report`: read the evaluation, history and measurements of every ablation; write tables, figures and pages."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import files, switches
from pipeline.errors import UserError
from pipeline.measurement.catalogue import measurements
from pipeline.params import Ablation, Params
from pipeline.reporting import page
from pipeline.reporting.claims import Claims
from pipeline.reporting.experiment import across, comparisons, order_value, report, rescue, tables
from pipeline.reporting.experiment.ceiling import order_blind_ceiling
from pipeline.reporting.experiment.task_results import TaskResults
from pipeline.stages import ANALYSIS, EVALUATION, MODELS, REPORTS, TESTED

OWN_TOKEN_VALUES = {name: ["dominance", "margin"] for name in ("own_token", "own_token_added")}
"""Name of a table that the report derives from the measurement `token_probe` -> its columns of values."""


def run(params: Params) -> None:
    """Write the report of an experiment below `reports/`, `index.html` last.

    Results of ablations that `params.yaml` does not have are ignored.

    Raises:
        UserError: see `read_results`.
    """
    runs, history, measured = read_results(params)
    sections, written = build_report(params, runs, history, measured)
    images = report.draw_images(sections)

    for folder in ("appendix", "figures", "measurements"):  # may have files of sections that are gone
        shutil.rmtree(REPORTS / folder, ignore_errors=True)
    for name, table in {**written, "learning_curves.csv": history}.items():
        files.write_csv(REPORTS / name, table)
    files.write_json(REPORTS / "metrics.json", collect_metrics(written["ablations.csv"]))
    files.write_json(REPORTS / "claims.schema.json", Claims.model_json_schema())
    files.write_json(REPORTS / "claims.json", Claims(claims=report.collect_claims(sections)).model_dump())
    for name, image in images.items():
        files.write_bytes(REPORTS / "figures" / f"{name}.png", image)
    content = report.build_page(sections)
    for name, text in page.render_appendix(content).items():
        files.write_text(REPORTS / "appendix" / name, text)
    files.write_text(REPORTS / "summary.md", page.render_markdown(content))
    files.write_text(REPORTS / "index.html", page.render_html(content, images))
    print(f"The report: {REPORTS / 'index.html'}")


def read_results(params: Params) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, pd.DataFrame]]:
    """Read the evaluations, the histories and the measurements of all ablations.

    Returns:
        Three values: a table with a row per run; a table with a row per evaluation during training; and the tables
        of measurements by name. Ablations whose runs all diverged have no measurements.

    Raises:
        UserError: an ablation has no evaluation, history or measurements, or those of other seeds.
    """
    evaluations, histories = [], []
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in measurements()}
    for ablation in params.all_ablations():
        artifact = _open_results("train", MODELS, ablation, ablation.name)
        history = _read_runs(artifact, "history.csv", ablation)
        history.insert(0, "ablation", ablation.name)
        histories.append(history)
        evaluation = _open_results("evaluate", EVALUATION, ablation, artifact.digest)
        scores = [ablation.task.score.column(split) for split in ("validation", "test")]
        table = _read_runs(evaluation, TESTED, ablation, (*tables.REQUIRED_RUN_COLUMNS, *scores))
        # take the name from params.yaml: in the file, a name such as `null` would be read as a missing value
        names = {"ablation": ablation.name, "task": ablation.dataset}
        evaluations.append(table.assign(**names, **switches.switch_columns(ablation)))
        analysis = _open_results("analyze", ANALYSIS, ablation, artifact.digest)
        for name in parts:
            if f"{name}.csv" in analysis.digests:
                parts[name].append(analysis.read_csv(f"{name}.csv").assign(ablation=ablation.name))
    unmeasured = pd.DataFrame(columns=["ablation"])
    measured = {name: pd.concat(rows, ignore_index=True) if rows else unmeasured for name, rows in parts.items()}
    own_token = tables.own_token_table(probe) if len(probe := measured["token_probe"]) else probe
    added = tables.subtract_initial_values(own_token, OWN_TOKEN_VALUES["own_token"]) if len(own_token) else own_token
    measured |= {"own_token": own_token, "own_token_added": added}
    return pd.concat(evaluations, ignore_index=True), pd.concat(histories, ignore_index=True), measured


def _open_results(stage: str, parent: Path, ablation: Ablation, subject: str) -> files.VerifiedFolder:
    """Open the folder that a stage wrote for an ablation; evaluation and analysis name the artifact's digest."""
    command = f"python -m pipeline {stage} {ablation.name}"
    return files.open_verified_folder(parent / ablation.name, creating_command=command, subject=subject)


def _read_runs(
    results: files.VerifiedFolder, file: str, ablation: Ablation, required_columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a table with rows for each run of an ablation, which must have the seeds of `params.yaml`."""
    table = results.read_csv(file)
    if missing := [column for column in required_columns if column not in table]:
        command = results.creating_command
        raise UserError(f"{results.folder}: has no column {missing[0]!r}; make it again with `{command}`")
    if set(table["seed"]) != set(ablation.training.seeds):
        raise UserError(
            f"{results.folder}: has the seeds {sorted(set(table['seed']))}, but params.yaml has "
            f"{sorted(ablation.training.seeds)}; `python -m pipeline repro` trains what is missing"
        )
    return table


def build_report(
    params: Params, runs: pd.DataFrame, history: pd.DataFrame, measured: Mapping[str, pd.DataFrame]
) -> tuple[list[report.PlacedSection], dict[str, pd.DataFrame]]:
    """Return the sections of the report, and its tables by file name relative to `reports/`.

    Args:
        runs: a row per run: its evaluation, and the switches of its ablation.
        history: a row per evaluation during training.
        measured: name of a measurement -> table of all ablations.
    """
    ablations = params.all_ablations()
    runs = runs.assign(still_rising=tables.mark_still_rising(runs, history))
    tasks = {ablation.dataset: ablation.task for ablation in ablations}
    ceilings = {name: order_blind_ceiling(task) for name, task in tasks.items()}
    cost = measured["cost"]
    flops: dict[Any, float] = cost.groupby("ablation")["flops_per_step"].median().to_dict() if len(cost) else {}
    written = {
        "runs.csv": runs,
        "ablations.csv": tables.ablation_table(ablations, runs, ceilings, flops),
        "symmetry.csv": measured["symmetry"].drop(columns="step", errors="ignore"),
    }
    value_columns = {name: list(measurement.value_descriptions) for name, measurement in measurements().items()}
    for name, columns in (value_columns | OWN_TOKEN_VALUES).items():
        written[f"measurements/{name}.csv"] = tables.summarise_over_seeds(measured[name], columns)
    results = []
    for name, task in tasks.items():
        groups = switches.group_ablations([ablation for ablation in ablations if ablation.dataset == name])
        in_page_order = [ablation for _, members in groups for ablation in members]
        results.append(TaskResults(name, task, in_page_order, written, measured, history, ceilings[name]))
    compared = [comparisons.comparison_table(task_results, params.comparisons) for task_results in results]
    differences = pd.concat(compared, ignore_index=True)
    written["comparisons.csv"] = comparisons.add_p_values(differences, params.comparisons, runs)
    written["rescue.csv"] = rescue.rescue_table(ablations, runs)
    written["order_value.csv"] = order_value.order_value_table(ablations, runs)
    compared_tasks = results if across.should_compare_tasks(results) else []
    written["tasks.csv"] = across.task_outcome_table(compared_tasks)
    written["holds.csv"] = across.claim_check_table(compared_tasks)
    return report.collect_sections(results, measurements()), written


def collect_metrics(ablations: pd.DataFrame) -> dict[Any, dict[Any, float]]:
    """Return the content of `metrics.json`, the numbers for `dvc metrics`: quantity -> ablation -> value."""
    decimals = {"restricted_steps": 1, "converged": 1, "test_bits": 3}
    table = ablations.set_index("ablation").reindex(columns=list(decimals)).astype(float).round(decimals)
    return {quantity: values.dropna().to_dict() for quantity, values in table.dropna(how="all", axis=1).items()}
