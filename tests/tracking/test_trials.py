"""A study's runs agree with its trials, whoever was killed while writing them, in every back end."""

from pathlib import Path

import pytest

from pipeline.params import Tracking
from pipeline.tracking import Run, connect
from pipeline.tracking.trials import TrialRuns
from tests.conftest import ablation

CELL = ablation("trial")
ATTRIBUTES = {
    "result": {"members": 2, "converged": 1, "residuals_kept": 4},
    "curve": [{"step": 4, "members_converged": 1, "validation_exact_match": 0.5}],
}
VALUES = (0.5, 4.0)


def opened(store: Tracking) -> TrialRuns:
    return TrialRuns(store, "study", identity="study", about={"trials": 2})


def found(store: Tracking, role: str) -> list[Run]:
    return [run for run in connect(store).find("study") if run.tags["role"] == role]


def test_a_trial_is_a_finished_run_of_its_study_however_often_it_is_shown(store: Tracking) -> None:
    for _ in range(2):
        runs = opened(store)
        for _ in range(2):
            runs.show(0, CELL, ATTRIBUTES, VALUES)
    (parent,) = found(store, "study")
    (run,) = found(store, "trial")
    assert (parent.status, run.status) == ("RUNNING", "FINISHED")
    assert (run.metrics["objective_0"], run.metrics["objective_1"]) == VALUES
    assert run.metrics["converged"] == 1
    assert {"task": "addition", "positional": "none", "layers": "2"}.items() <= run.tags.items()
    assert connect(store).points(run.id, "validation_exact_match") == {4: 0.5}
    runs.finish({"trials": 1})
    (parent,) = found(store, "study")
    assert (parent.status, parent.metrics["trials"]) == ("FINISHED", 1)


def test_what_a_killed_worker_had_begun_to_show_is_shown_anew(store: Tracking) -> None:
    opened(store)
    tags = {"identity": "study", "role": "trial", "trial": "0"}
    half = connect(store).create("trial-0 study", tags)  # and there its writer ends
    opened(store).show(0, CELL, ATTRIBUTES, VALUES)
    (run,) = found(store, "trial")
    assert run.id != half.id
    assert run.status == "FINISHED"
    assert run.metrics["objective_1"] == VALUES[1]


def test_a_store_that_is_not_there_costs_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = opened(Tracking(uri=f"jsonl:{tmp_path}"))
    runs.show(0, CELL, ATTRIBUTES, VALUES)
    runs.finish({"trials": 1})
    (said,) = capsys.readouterr().err.splitlines()
    assert "python -m pipeline search" in said
