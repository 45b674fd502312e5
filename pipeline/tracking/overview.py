"""Fill in what MLflow's first page shows: names, differences between ablations, and a stored view of the table.

These depend on several ablations, so they are written when all are at hand, and not while one trains.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import files, switches
from pipeline.errors import UserError
from pipeline.params import Ablation, Params
from pipeline.params.score import SCORES
from pipeline.reporting.contrasts import summarise_mean_difference, values_by_seed
from pipeline.tracking.ablations import TRAINED_TAG, supersede_runs
from pipeline.tracking.contents import interval_metrics, score_metric
from pipeline.tracking.store import MlflowStore, Run

VIEW = "report"
"""Key of the stored view in addresses of MLflow's pages."""
CURRENT_ABLATIONS = "tags.role = 'ablation' and tags.current = 'true'"
RUN_NAME = "attributes.`Run Name`"
SUMMARY = (
    *(f"metrics.`summary/{name}`" for name in ("steps", "steps_low", "steps_high", "n", "converged")),
    *(f"metrics.`summary/{name}`" for name in ("difference", "difference_low", "difference_high")),
    "tags.`reference`",
)
"""Columns of the stored view that every experiment has."""


def update_overview(store: MlflowStore, params: Params, evaluations: Path, file_name: str) -> None:
    """Bring names, differences and the stored view up to date; ablations that `params` lacks are marked as superseded.

    An ablation's evaluation is the file `<evaluations>/<ablation>/<file_name>`; without one, it gets no difference.
    """
    parents = {run.data.tags["ablation"]: run for run in store.find_runs(CURRENT_ABLATIONS)}
    for removed in parents.keys() - params.ablations.keys():
        supersede_runs(store, store.find_runs(f"tags.ablation = '{removed}' and tags.current = 'true'"))
        del parents[removed]
    names = distinct_beginnings(parents)
    for name, run in parents.items():
        if run.info.run_name != names[name]:
            store.client.update_run(run.info.run_id, name=names[name])
    outcomes = {name: _read_outcomes(run, evaluations / name, file_name) for name, run in parents.items()}
    for name, (metrics, tags) in compare_with_references(params, outcomes).items():
        shown = parents[name].data
        if not (metrics.items() <= shown.metrics.items() and tags.items() <= shown.tags.items()):
            store.log(parents[name], metrics=metrics, tags=tags)
    store.save_view(VIEW, build_view(params))


def distinct_beginnings(names: Collection[str]) -> dict[str, str]:
    """Return the names with what they share with a shorter one at their end, since tables and charts cut the end off:
    `nope-causal-no-residual-0` beside `nope-causal` is `no-residual-0 nope-causal`."""
    bases = {name: max((base for base in names if name.startswith(f"{base}-")), key=len, default="") for name in names}
    return {name: f"{name.removeprefix(f'{base}-')} {base}".strip() for name, base in bases.items()}


def compare_with_references(
    params: Params, outcomes: Mapping[str, pd.DataFrame | None]
) -> dict[str, tuple[dict[str, float], dict[str, str]]]:
    """Return the difference between each ablation and its reference, as metrics and tags.

    The reference is the second ablation of the first declared comparison in which the ablation is the first. Steps
    count up to the smaller of the two budgets. `outcomes` holds the tables evaluation.csv.
    """
    differences = {}
    for comparison in reversed(params.comparisons):
        pair, quantity = [params.ablation(name) for name in (comparison.first, comparison.second)], comparison.quantity
        budget = min(ablation.training.steps for ablation in pair)
        tables = [table for ablation in pair if (table := outcomes.get(ablation.name)) is not None]
        values = [values_by_seed(table, quantity, budget) for table in tables]
        if len(values) == 2 and all(map(len, values)):
            metrics = interval_metrics("summary/difference", summarise_mean_difference(quantity, values, budget))
            differences[comparison.first] = metrics, {"reference": comparison.second, "difference_in": quantity}
    return differences


def build_view(params: Params) -> dict[str, Any]:
    """Return the state of MLflow's table of runs: a row per current ablation, and as columns its results and switches.

    A switch that is the same in all ablations has no column.
    """
    ablations = params.all_ablations()
    scores = {ablation.task.score.column("test") for ablation in ablations}
    tested = [f"metrics.`{score_metric(score.column('test'))}`" for score in SCORES if score.column("test") in scores]
    columns = [*SUMMARY, *tested, *(f"tags.`{name}`" for name in varying_columns(ablations))]
    return {
        "searchFilter": CURRENT_ABLATIONS,
        "orderByKey": "metrics.`summary/steps`",
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": [RUN_NAME, *columns],
        "columnWidths": {column: 6 * len(column) for column in columns} | {RUN_NAME: 260},  # pixels
        "runsHiddenMode": "SHOW_ALL",
    }


def varying_columns(ablations: Collection[Ablation]) -> list[str]:
    """Return the names of the tags, of task and switches, that do not have one value in all ablations."""
    tags = pd.DataFrame([{"task": ablation.dataset, **switches.switch_tags(ablation)} for ablation in ablations])
    return [str(name) for name in tags if tags[name].nunique() > 1]


def _read_outcomes(run: Run, folder: Path, file_name: str) -> pd.DataFrame | None:
    """Return the evaluation in `folder`, or None if it is missing or not of the training that the run shows."""
    with suppress(UserError):
        evaluated = files.open_verified_folder(folder, creating_command="python -m pipeline evaluate")
        if evaluated.subject == run.data.tags.get(TRAINED_TAG):
            return evaluated.read_csv(file_name)
    return None
