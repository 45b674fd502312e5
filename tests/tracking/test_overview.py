"""MLflow's first page shows the results of the current ablations, as the report has them."""

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.params import Comparison, Params, Tracking
from pipeline.reporting.contrasts import differences
from pipeline.reporting.results import Results
from pipeline.tasks.registry import read_params
from pipeline.tracking.ablations import sync_runs
from pipeline.tracking.overview import (
    CURRENT_ABLATIONS,
    VIEW,
    build_view,
    compare_with_references,
    distinct_beginnings,
    update_overview,
)
from pipeline.tracking.store import open_store
from tests.tracking.helpers import ABLATION, NAME, write_ablation, write_evaluation

WORDS = st.lists(st.sampled_from(["nope", "causal", "no", "residual", "0", "1"]), min_size=1, max_size=4).map("-".join)


@given(st.sets(WORDS, max_size=6))
def test_names_stay_distinct_and_have_the_words_of_a_shorter_name_at_their_end(names: set[str]) -> None:
    shown = distinct_beginnings(names)
    assert len({*shown.values()}) == len(names)
    for name, text in shown.items():
        beginning, _, base = text.partition(" ")
        assert name == (f"{base}-{beginning}" if base else beginning)
        assert bool(base) == any(name.startswith(f"{other}-") for other in names)


def test_differences_are_those_of_the_report() -> None:
    """The reference of an ablation is the second of the first comparison that is declared with it as the first."""
    params = read_params()
    steps = {a.name: [100.0 * (i + 1) + 10 * seed for seed in range(8)] for i, a in enumerate(params.all_ablations())}
    steps["nope-causal"][0] = float("nan")  # did not converge
    outcomes = {
        name: pd.DataFrame({"seed": range(8), "steps_to_converge": values, "test_exact_match": 1.0})
        for name, values in steps.items()
    }
    runs = pd.concat([table.assign(ablation=name, proved=0) for name, table in outcomes.items()])
    for column in ("steps_to_50", "steps_to_90", "area_above_curve"):
        runs[column] = 50.0
    results = Results(params.all_ablations(), params.comparisons, runs, pd.DataFrame(), pd.DataFrame())
    rows = pd.DataFrame(differences(results))
    rows = rows[rows["quantity"] == "restricted_steps"].set_index(["ablation", "versus"])
    shown = compare_with_references(params, outcomes)
    assert {name: tags["reference"] for name, (_, tags) in shown.items()} == {
        comparison.first: comparison.second for comparison in reversed(params.comparisons)
    }
    for name, (metrics, tags) in shown.items():
        row = rows.loc[(name, tags["reference"])]
        values = [metrics[f"summary/difference{end}"] for end in ("", "_low", "_high")]
        assert values == pytest.approx([row["value"], row["low"], row["high"]], rel=1e-3)
    del outcomes["learned-causal"]
    assert not any(
        tags["reference"] == "learned-causal" for _, tags in compare_with_references(params, outcomes).values()
    )


def two_ablations(store: Tracking) -> Params:
    """The helpers' ablation, and a deeper one that is compared with it."""
    names = {NAME: {}, f"{NAME}-deep": {"layers": 3}}
    return Params(
        tasks={"addition": ABLATION.task},
        model=ABLATION.model,
        training=ABLATION.training,
        ablations={name: {"task": "addition", "model": overrides} for name, overrides in names.items()},
        comparisons=[Comparison(first=f"{NAME}-deep", second=NAME)],
        search=read_params().search,
        tracking=store,
    )


def test_the_stored_view_has_columns_with_values_and_none_that_is_constant(store: Tracking, tmp_path: Path) -> None:
    params = two_ablations(store)
    experiment = open_store(store)
    for ablation in params.all_ablations():
        folder = write_ablation(tmp_path, of=ablation)
        sync_runs(experiment, ablation, folder, write_evaluation(folder))
    update_overview(experiment, params, tmp_path / "reports" / "evaluation", "evaluation.csv")
    tags = experiment.client.get_experiment(experiment.experiment_id).tags
    view = json.loads(tags[f"mlflow.sharedViewState.{VIEW}"])
    assert view == json.loads(json.dumps(build_view(params)))
    shown = experiment.find_runs(view["searchFilter"])
    assert {run.info.run_name for run in shown} == {NAME, f"deep {NAME}"}
    values = {f"metrics.`{name}`" for run in shown for name in run.data.metrics}
    values |= {f"tags.`{name}`" for run in shown for name in run.data.tags}
    columns = set(view["selectedColumns"])
    assert columns <= values
    assert {name for name in columns if name.startswith("tags.")} == {"tags.`layers`", "tags.`reference`"}


def test_runs_of_an_ablation_that_was_removed_are_no_longer_current(store: Tracking, tmp_path: Path) -> None:
    params, experiment = two_ablations(store), open_store(store)
    for ablation in params.all_ablations():
        sync_runs(experiment, ablation, write_ablation(tmp_path, of=ablation))
    one = params.model_copy(update={"ablations": {NAME: params.ablations[NAME]}, "comparisons": []})
    update_overview(experiment, one, tmp_path, "evaluation.csv")
    assert {run.data.tags["ablation"] for run in experiment.find_runs("tags.current = 'true'")} == {NAME}
    assert len(experiment.find_runs(CURRENT_ABLATIONS)) == 1
