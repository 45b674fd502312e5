"""A study's runs in MLflow agree with its trials, whoever was killed while writing them. A real store."""

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline import tracking
from pipeline.params import Cell, Tracking
from pipeline.trial_runs import TrialRuns
from tests.conftest import model, training

CELL = Cell(name="trial", model=model(), training=training())
ATTRIBUTES = {
    "result": {"members": 2, "converged": 1, "residuals_kept": 4},
    "curve": [{"step": 4, "members_converged": 1, "validation_exact_match": 0.5}],
}
VALUES = (0.5, 4.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    return Tracking(uri=f"sqlite:///{path}", experiment="breaking-symmetry")


def opened(store: Tracking, study: str) -> TrialRuns:
    return TrialRuns(store, study, identity=study, about={"trials": 2})


def found(store: Tracking, study: str, role: str) -> list[Run]:
    client = MlflowClient(store.uri)
    experiment = client.get_experiment_by_name(store.experiment)
    assert experiment is not None
    return client.search_runs([experiment.experiment_id], f"tags.identity = '{study}' and tags.role = '{role}'")


def test_a_trial_is_a_finished_run_below_its_study_however_often_it_is_shown(store: Tracking) -> None:
    for _ in range(2):
        runs = opened(store, "twice")
        for _ in range(2):
            runs.show(0, CELL, ATTRIBUTES, VALUES)
    (parent,) = found(store, "twice", "study")
    (run,) = found(store, "twice", "trial")
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (run.data.metrics["objective_0"], run.data.metrics["objective_1"]) == VALUES
    assert run.data.metrics["converged"] == 1
    assert run.data.params["model.layers"] == "2"


def test_what_a_killed_worker_had_begun_to_show_is_shown_anew(store: Tracking) -> None:
    opened(store, "killed")
    tags = {"identity": "killed", "role": "trial", "trial": "0"}
    half = tracking.connect(store).create("killed/trial-0", tags)  # and there its writer ends
    opened(store, "killed").show(0, CELL, ATTRIBUTES, VALUES)
    (run,) = found(store, "killed", "trial")
    assert run.info.run_id != half
    assert run.info.status == "FINISHED"
    assert run.data.metrics["objective_1"] == VALUES[1]
