"""A search's runs agree with its trials, whichever process was killed while it wrote them."""

from pathlib import Path

import pytest
from mlflow.entities import Run

from pipeline.params import Tracking
from pipeline.tracking.store import open_store
from pipeline.tracking.trials import TrialRuns
from tests.conftest import ablation

ABLATION = ablation("trial")
ROW = {"trial": 0, "runs": 2, "converged": 1, "probability": 0.2, "residuals_kept": 4, "area": 800.0}
ROW |= {"stopped": 0, "diverged": 0}
CURVE = {4: 0.5}


def search_runs(settings: Tracking) -> TrialRuns:
    return TrialRuns(settings, "study", search_id="a", params={"trials": 2})


def only_run(store: Tracking, role: str) -> Run:
    """The one run of this role in the store."""
    (run,) = open_store(store).find_runs(f"tags.role = '{role}'")
    return run


def test_a_trial_is_one_finished_run_below_its_search_however_often_it_is_shown(store: Tracking) -> None:
    for _ in range(2):
        runs = search_runs(store)
        for _ in range(2):
            runs.write_trial(ROW, ABLATION, CURVE)
    parent, run = only_run(store, "search"), only_run(store, "trial")
    assert (parent.info.status, run.info.status) == ("RUNNING", "FINISHED")
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (run.data.metrics["summary/converged"], run.data.metrics["summary/area"]) == (1, 800)
    assert {"task": "addition", "positional": "none", "layers": "2"}.items() <= run.data.tags.items()
    assert open_store(store).read_curve(run, "curve/score") == CURVE
    runs.finish_parent_run({"trials": 1})
    parent = only_run(store, "search")
    assert (parent.info.status, parent.data.metrics["summary/trials"]) == ("FINISHED", 1)


def test_a_trial_whose_writer_was_killed_is_shown_anew(store: Tracking) -> None:
    search_runs(store)
    unfinished = open_store(store).create_run("trial-0 study", {"search_id": "a", "role": "trial", "trial": "0"})
    search_runs(store).write_trial(ROW, ABLATION, CURVE)
    run = only_run(store, "trial")
    assert run.info.run_id != unfinished.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.metrics["summary/residuals_kept"] == 4


def test_a_store_that_cannot_be_used_costs_one_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    runs = search_runs(Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db"))
    runs.write_trial(ROW, ABLATION, CURVE)
    runs.finish_parent_run({"trials": 1})
    (warning,) = capsys.readouterr().err.splitlines()
    assert "python -m pipeline search" in warning
