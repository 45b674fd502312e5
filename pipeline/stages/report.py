"""Stage `report`: read the evaluation, history and measurements of every ablation; write tables, figures and pages."""

import shutil
from collections.abc import Mapping, Sequence
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
        of measurements by name.

    Raises:
        UserError: an ablation has no evaluation or history, or one of other seeds.
    """
    ablations = params.all_ablations()
    artifacts = {ablation.name: _open_artifact(ablation) for ablation in ablations}
    evaluations = [_read_evaluation(ablation, artifacts[ablation.name]) for ablation in ablations]
    histories = [_read_history(ablation, artifacts[ablation.name]) for ablation in ablations]
    runs, history = pd.concat(evaluations, ignore_index=True), pd.concat(histories, ignore_index=True)
    return runs, history, _read_measurements(artifacts)


def build_report(
    params: Params, runs: pd.DataFrame, history: pd.DataFrame, measurement_tables: Mapping[str, pd.DataFrame]
) -> tuple[list[report.PlacedSection], dict[str, pd.DataFrame]]:
    """Return the sections of the report, and its tables by file name relative to `reports/`.

    Args:
        runs: a row per run: its evaluation, and the switches of its ablation.
        history: a row per evaluation during training.
        measurement_tables: name of a measurement -> table of all ablations.
    """
    ablations = params.all_ablations()
    runs = runs.assign(still_rising=tables.mark_still_rising(runs, history))
    tasks = {ablation.dataset: ablation.task for ablation in ablations}
    ceilings = {name: order_blind_ceiling(task) for name, task in tasks.items()}
    written = _build_tables(ablations, runs, ceilings, measurement_tables)
    results = [
        TaskResults(
            name, task, _ablations_in_page_order(ablations, name), written, measurement_tables, history, ceilings[name]
        )
        for name, task in tasks.items()
    ]
    compared = [comparisons.comparison_table(task_results, params.comparisons) for task_results in results]
    written["comparisons.csv"] = comparisons.add_p_values(
        pd.concat(compared, ignore_index=True), params.comparisons, runs
    )
    written["rescue.csv"] = rescue.rescue_table(ablations, runs)
    written["order_value.csv"] = order_value.order_value_table(ablations, runs)
    compared_tasks = results if across.should_compare_tasks(results) else []
    written["tasks.csv"] = across.task_outcome_table(compared_tasks)
    written["holds.csv"] = across.claim_check_table(compared_tasks)
    return report.collect_sections(results, measurements()), written


def collect_metrics(ablations: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return the content of `metrics.json`, the numbers for `dvc metrics`: quantity -> ablation -> value."""
    decimals = {"restricted_steps": 1, "converged": 1, "test_bits": 3}
    by_ablation = ablations.set_index("ablation").reindex(columns=list(decimals)).astype(float)
    table = by_ablation.round(decimals).dropna(how="all", axis=1)
    return {
        str(quantity): {str(ablation): float(value) for ablation, value in values.dropna().items()}
        for quantity, values in table.items()
    }


def _build_tables(
    ablations: Sequence[Ablation],
    runs: pd.DataFrame,
    ceilings: dict[str, float | None],
    measurement_tables: Mapping[str, pd.DataFrame],
) -> dict[str, pd.DataFrame]:
    """Return the tables of the report, except those that compare ablations: file name in `reports/` -> table."""
    cost = measurement_tables["cost"]
    flops: dict[Any, float] = cost.groupby("ablation")["flops_per_step"].median().to_dict() if len(cost) else {}
    values = {
        name: list(measurement.value_descriptions) for name, measurement in measurements().items()
    } | OWN_TOKEN_VALUES
    return {
        "runs.csv": runs,
        "ablations.csv": tables.ablation_table(ablations, runs, ceilings, flops),
        "symmetry.csv": measurement_tables["symmetry"].drop(columns="step", errors="ignore"),
        **{
            f"measurements/{name}.csv": tables.summarise_over_seeds(measurement_tables[name], columns)
            for name, columns in values.items()
        },
    }


def _ablations_in_page_order(ablations: Sequence[Ablation], task: str) -> list[Ablation]:
    """Return the ablations of a task, in the order of the report's pages."""
    groups = switches.group_ablations([ablation for ablation in ablations if ablation.dataset == task])
    return [ablation for _, members in groups for ablation in members]


def _open_artifact(ablation: Ablation) -> files.VerifiedFolder:
    """Open the artifact of an ablation, whose digest must be named by the ablation's evaluation and measurements."""
    return files.open_verified_folder(
        MODELS / ablation.name, creating_command=f"python -m pipeline train {ablation.name}", subject=ablation.name
    )


def _read_evaluation(ablation: Ablation, artifact: files.VerifiedFolder) -> pd.DataFrame:
    command = f"python -m pipeline evaluate {ablation.name}"
    table = files.open_verified_folder(
        EVALUATION / ablation.name, creating_command=command, subject=artifact.digest
    ).read_csv(TESTED)
    scores = [ablation.task.score.column(split) for split in ("validation", "test")]
    if missing := [column for column in (*tables.REQUIRED_RUN_COLUMNS, *scores) if column not in table]:
        raise UserError(f"{EVALUATION / ablation.name}: has no column {missing[0]!r}; make it again with `{command}`")
    _check_seeds(table, ablation, str(EVALUATION / ablation.name))
    # take the name from params.yaml: in the file, a name such as `null` would be read as a missing value
    return table.assign(ablation=ablation.name, task=ablation.dataset, **switches.switch_columns(ablation))


def _read_measurements(artifacts: Mapping[str, files.VerifiedFolder]) -> dict[str, pd.DataFrame]:
    """Return the table of each measurement over all ablations; ablations whose runs all diverged have no rows."""
    analyses = {
        ablation: files.open_verified_folder(
            ANALYSIS / ablation, creating_command=f"python -m pipeline analyze {ablation}", subject=artifact.digest
        )
        for ablation, artifact in artifacts.items()
    }
    measured = {}
    for name in measurements():
        file = f"{name}.csv"
        parts = [
            analysis.read_csv(file).assign(ablation=ablation)
            for ablation, analysis in analyses.items()
            if file in analysis.digests
        ]
        measured[name] = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["ablation"])
    own_token = tables.own_token_table(probe) if len(probe := measured["token_probe"]) else probe
    measured["own_token"] = own_token
    measured["own_token_added"] = (
        tables.subtract_initial_values(own_token, OWN_TOKEN_VALUES["own_token"]) if len(own_token) else own_token
    )
    return measured


def _read_history(ablation: Ablation, artifact: files.VerifiedFolder) -> pd.DataFrame:
    table = artifact.read_csv("history.csv")
    _check_seeds(table, ablation, str(MODELS / ablation.name))
    table.insert(0, "ablation", ablation.name)
    return table


def _check_seeds(table: pd.DataFrame, ablation: Ablation, location: str) -> None:
    if set(table["seed"]) != set(ablation.training.seeds):
        raise UserError(
            f"{location}: has the seeds {sorted(set(table['seed']))}, but params.yaml has "
            f"{sorted(ablation.training.seeds)}; `python -m pipeline repro` trains what is missing"
        )
