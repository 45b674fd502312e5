"""The runs of an ablation agree with its files, whatever happened in between. A real store."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from pipeline import cli, files
from pipeline.api import SHIPPED_MODELS_FOLDER, load
from pipeline.params import Ablation, Tracking
from pipeline.tracking.ablations import result_digest, sync_runs
from pipeline.tracking.store import REPORT_ALIAS, open_store
from tests.conftest import ablation, task
from tests.tracking import helpers
from tests.tracking.helpers import curves, evaluations, ids, live, runs, synced, write_ablation, write_evaluation

ABLATION, DATA, NAME = helpers.ABLATION, helpers.DATA, helpers.NAME


def statuses(settings: Tracking) -> set[str]:
    return {run.info.status for run in runs(settings).values()}


def test_an_ablation_is_a_parent_with_a_child_per_seed(store: Tracking, tmp_path: Path) -> None:
    folder = write_ablation(tmp_path)
    assert synced(store, folder, write_evaluation(folder)) == "added"
    shown = runs(store)
    assert set(shown) == {None, *helpers.SEEDS}
    assert statuses(store) == {"FINISHED"}
    parent, first, second = shown[None], shown[1], shown[2]
    assert (parent.info.run_name, first.info.run_name) == (NAME, f"seed-1 {NAME}")  # tables cut the end off
    assert (parent.data.tags["role"], first.data.tags["role"]) == ("ablation", "run")
    assert first.data.tags["mlflow.parentRunId"] == parent.info.run_id
    groups = {"ablation": NAME, "task": "addition", "positional": "none", "attention": "causal", "layers": "2"}
    groups |= {"residual_free_attention": "1", "residual_free_mlp": "1", "optimizer": "muon", "order_blind": "false"}
    assert groups.items() <= first.data.tags.items()
    params = {"model.layers": "2", "training.optimizer": "muon", "task.digits": "2", "seed": "1"}
    assert params.items() <= first.data.params.items()
    metrics = {"curve/validation_exact_match": 1.0, "test/exact_match": 0.9, "summary/steps": 8}
    assert metrics.items() <= first.data.metrics.items()
    assert (second.data.metrics["summary/converged"], second.data.metrics["summary/diverged"]) == (0, 1)
    assert parent.data.metrics["summary/converged"] == 1
    share = [parent.data.metrics[f"summary/converged_share{end}"] for end in ("_low", "", "_high")]
    assert share[0] < share[1] == 0.5 < share[2]
    assert parent.data.metrics["test/exact_match_max"] == 0.9
    assert first.inputs
    (dataset,) = first.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.tags[0].value) == ("addition", "training")


def test_values_that_are_not_finite_are_left_out_of_curves(store: Tracking, tmp_path: Path) -> None:
    synced(store, write_ablation(tmp_path))
    shown = curves(store)
    assert shown[1, "curve/train_loss"] == {4: 0.25, 8: 0.125}
    assert shown[2, "curve/train_loss"] == {4: 0.25}
    assert shown[2, "curve/validation_exact_match"] == {4: 0.0, 8: 0.0}
    assert shown[None, "curve/runs_converged"] == {4: 0.0, 8: 1.0}
    assert shown[None, "curve/validation_exact_match"] == {4: 0.125, 8: 0.5}


def test_live_runs_are_completed_from_files_and_show_what_the_files_alone_show(store: Tracking, tmp_path: Path) -> None:
    with live(store) as live_runs:
        for step in helpers.STEPS:
            live_runs.log_evaluation(evaluations(step))
        while_training = curves(store)
        folder = write_ablation(tmp_path)
        live_runs.add_final_results(folder)
    recorded, parent = ids(store), runs(store)[None]
    assert statuses(store) == {"FINISHED"}
    assert parent.data.metrics["summary/training_seconds"] > 0
    assert {"machine.torch", "mlflow.user", "mlflow.source.name", "mlflow.source.git.commit"} <= set(parent.data.tags)
    assert while_training.items() <= curves(store).items()
    evaluation = write_evaluation(folder)
    assert synced(store, folder, evaluation) == "completed"
    shown = curves(store)
    assert synced(store, folder, evaluation) == "already there"
    assert curves(store) == shown
    assert ids(store) == recorded
    another = store.model_copy(update={"experiment": "another"})
    synced(another, folder, evaluation)
    assert curves(another) == shown


def test_new_results_replace_those_shown(store: Tracking, tmp_path: Path) -> None:
    folder = write_ablation(tmp_path)
    synced(store, folder, write_evaluation(folder))
    first = ids(store)
    synced(store, write_ablation(tmp_path, weight=1.0))
    second = ids(store)
    assert synced(store, folder, write_evaluation(folder, exact=0.8)) == "completed"  # as many bytes as before
    assert ids(store) == second
    assert runs(store)[1].data.metrics["test/exact_match"] == 0.8
    with live(store) as live_runs:
        third = ids(store)
        live_runs.add_final_results(folder)
    assert len(first) == len(second) == len(third) == len(first | second | third) / 3
    assert ids(store) == third


def test_a_config_written_anew_for_the_same_weights_keeps_the_runs(store: Tracking, tmp_path: Path) -> None:
    folder = write_ablation(tmp_path)
    synced(store, folder)
    kept, digest = ids(store), runs(store)[1].data.tags["trained"]
    write_ablation(tmp_path, parameter_count=2)
    assert synced(store, folder) == "completed"
    assert ids(store) == kept
    assert runs(store)[1].data.tags["trained"] != digest


def test_an_evaluation_of_an_earlier_training_is_not_shown(store: Tracking, tmp_path: Path) -> None:
    folder = write_ablation(tmp_path)
    synced(store, folder, write_evaluation(folder, of="another"))
    assert "test/exact_match" not in runs(store)[1].data.metrics


def stop_by(settings: Tracking, error: type[BaseException], **changes: float) -> None:
    """Log an evaluation, and leave the training by an error."""
    with suppress(error), live(settings) as live_runs:
        live_runs.log_evaluation([row | changes for row in evaluations(helpers.STEPS[0])])
        raise error


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (ZeroDivisionError, "FAILED")])
def test_a_stopped_run_is_completed_from_files(
    store: Tracking, tmp_path: Path, error: type[BaseException], status: str
) -> None:
    stop_by(store, error)
    stopped = ids(store)
    assert statuses(store) == {status}
    assert synced(store, write_ablation(tmp_path)) == "completed"
    assert ids(store) == stopped
    assert statuses(store) == {"FINISHED"}
    assert curves(store)[1, "curve/validation_exact_match"] == {4: 0.25, 8: 1.0}


def test_a_stopped_run_that_shows_something_else_is_replaced(store: Tracking, tmp_path: Path) -> None:
    stop_by(store, ZeroDivisionError, validation_exact_match=0.5)
    assert synced(store, write_ablation(tmp_path)) == "added"
    assert curves(store)[1, "curve/validation_exact_match"] == {4: 0.25, 8: 1.0}


def test_the_run_of_an_mlflow_project_is_left_alone(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlflow run` passes the id of its own run to the commands that it starts."""
    client = MlflowClient(store.uri)
    outer = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", outer)
    before = client.get_run(outer).to_dictionary()
    with live(store) as live_runs:
        live_runs.add_final_results(write_ablation(tmp_path))
    assert len(runs(store)) == 3
    assert client.get_run(outer).to_dictionary() == before
    assert cli.run_command(["check"]) == 0
    assert client.get_run(outer).to_dictionary() == before


def test_models_are_registered_in_the_store_of_the_params_in_a_folder_of_any_name(
    empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever `MLFLOW_REGISTRY_URI` says, and although SQLAlchemy decodes `%20`."""
    other = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'other.db')}"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", other)
    project = tmp_path / "a%20b"
    project.mkdir()
    monkeypatch.chdir(project)
    for uri in ("sqlite:///mlflow.db", f"sqlite:///{project}/second.db"):
        experiment = open_store(Tracking(uri=uri))
        assert sync_runs(experiment, ABLATION, write_ablation(tmp_path)) == "added"
        assert [model.name for model in experiment.client.search_registered_models()] == [ABLATION.name]
    assert not MlflowClient(other, registry_uri=other).search_registered_models()
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} <= {"a%20b", "models", ABLATION.name}
    assert {"mlflow.db", "second.db", "mlartifacts"} <= {path.name for path in project.iterdir()}


def test_mlflow_loads_an_ablation_by_its_name_also_after_the_folder_was_moved(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(SHIPPED_MODELS_FOLDER / NAME, tmp_path / "models" / NAME))
    shipped = load(folder).ablation
    config = json.loads((folder / "config.json").read_text())
    (seed,) = config["training"]["seeds"] = shipped.training.seeds[:1]  # only one comes with the project
    files.write_json(folder / "config.json", config)
    files.write_csv(folder / "history.csv", pd.DataFrame([evaluations(4)[0] | {"seed": seed}]))
    files.write_manifest(folder, subject=NAME)
    assert sync_runs(open_store(store), shipped, folder) == "added"
    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    uri = f"sqlite:///{moved}/mlflow.db"
    experiment = open_store(store.model_copy(update={"uri": uri}))
    assert sync_runs(experiment, shipped, moved / "models" / NAME) == "already there"
    (version,) = experiment.client.search_model_versions(f"name = '{NAME}'")
    (model,) = experiment.client.search_logged_models([experiment.experiment_id])
    assert (model.source_run_id, model.status) == (version.run_id, "READY")
    assert {metric.key for metric in model.metrics or []} >= {"summary/converged", "summary/steps"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    loaded = mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    assert loaded.predict(["123+456="]) == ["9750"]
    assert loaded.predict(pd.DataFrame({"prompt": ["123+456=", "321+456="]})) == ["9750", "7770"]


LONGER = ABLATION.model_copy(update={"training": ABLATION.training.model_copy(update={"steps": 12})})
"""The ablation after its budget was changed by hand."""


def is_current(settings: Tracking, ablation: Ablation = ABLATION) -> set[bool]:
    """Whether the runs of an ablation with these settings are tagged as current."""
    return {run.data.tags["current"] == "true" for run in runs(settings, ablation).values()}


def reported_run(settings: Tracking) -> str:
    """Id of the run of the model version that the report is about."""
    client = open_store(settings).client
    return str(client.get_model_version_by_alias(NAME, REPORT_ALIAS).run_id)


def test_of_an_ablation_with_several_settings_the_runs_in_the_files_are_current(
    store: Tracking, tmp_path: Path
) -> None:
    folder, longer = write_ablation(tmp_path), write_ablation(tmp_path / "longer", of=LONGER)
    for of, other, path in ((ABLATION, LONGER, folder), (LONGER, ABLATION, longer), (ABLATION, LONGER, folder)):
        sync_runs(open_store(store), of, path)
        assert is_current(store, of) == {True}
        assert True not in is_current(store, other)
        assert reported_run(store) == runs(store, of)[None].info.run_id
    assert len(open_store(store).client.search_model_versions(f"name = '{NAME}'")) == 2
    with live(store, LONGER):
        assert (is_current(store), is_current(store, LONGER)) == ({False}, {True})


def test_what_dvc_tries_as_an_experiment_is_named_so_and_supersedes_nothing(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_ablation(tmp_path)
    synced(store, folder)
    monkeypatch.setenv("DVC_EXP_NAME", "wider")
    synced(store, folder, write_evaluation(folder))  # the same results again
    with live(store) as same:
        assert is_current(store) == {True}
        same.add_final_results(folder)
    with live(store, LONGER) as tried:
        tried.add_final_results(write_ablation(tmp_path / "tried", of=LONGER))
    assert (is_current(store), is_current(store, LONGER)) == ({True}, {False})
    assert runs(store, LONGER)[None].data.tags["experiment"] == f"{store.experiment}/wider"
    versions = open_store(store).client.search_model_versions(f"name = '{NAME}'")
    experiments = [version.tags["experiment"] for version in sorted(versions, key=lambda version: int(version.version))]
    assert experiments == [store.experiment, *[f"{store.experiment}/wider"] * 2]
    assert reported_run(store) == runs(store)[None].info.run_id


def test_a_registered_model_that_was_deleted_is_registered_again(store: Tracking, tmp_path: Path) -> None:
    experiment, folder = open_store(store), write_ablation(tmp_path)
    synced(store, folder)
    for delete in (
        lambda: experiment.client.delete_registered_model(NAME),
        lambda: experiment.client.delete_model_version(NAME, "1"),
        lambda: experiment.client.delete_registered_model_alias(NAME, REPORT_ALIAS),
    ):
        delete()
        assert synced(store, folder) == "already there"
        assert reported_run(store) == runs(store)[None].info.run_id


def test_an_experiment_whose_name_has_a_slash_has_registered_models(store: Tracking, tmp_path: Path) -> None:
    experiment = open_store(store.model_copy(update={"experiment": "lab/a:b"}))
    assert sync_runs(experiment, ABLATION, write_ablation(tmp_path)) == "added"
    assert [model.name for model in experiment.client.search_registered_models()] == [f"lab-a-b-{NAME}"]


def test_runs_are_found_by_all_that_determines_their_result() -> None:
    tasks = [task(seed=2), task(digits=3), task(reverse=False)]
    others = [
        ablation("other", model_={"residual_free": [1]}),
        ablation(NAME, model_={"layers": 3, "residual_free": [1]}),
        ablation(NAME, model_={"residual_free": [1]}, steps=4),
        ABLATION.model_copy(update={"dataset": "other"}),
        *(ABLATION.model_copy(update={"task": changed}) for changed in tasks),
    ]
    digests = {result_digest(other, DATA) for other in [ABLATION, *others]}
    assert len(digests | {result_digest(ABLATION, {"train.csv": "d"})}) == 9
    default = ABLATION.model_copy(update={"model": ABLATION.model.model_copy(update={"dropout": 0.0})})
    assert result_digest(default, DATA) == result_digest(ABLATION, DATA)
