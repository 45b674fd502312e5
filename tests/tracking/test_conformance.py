"""Every back end keeps the same laws: those of a store, and those of an ablation's runs in it. Real ones, no stand-ins."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.params import Tracking
from pipeline.tracking import BACKENDS, check, connect
from pipeline.tracking.ablations import end_killed, result_digest, sync
from pipeline.tracking.machine import PROCESS, machine
from tests.conftest import ablation, task
from tests.tracking.conftest import URIS
from tests.tracking.written import (
    CELL,
    DATA,
    SEEDS,
    STEPS,
    curves,
    evaluations,
    ids,
    live,
    runs,
    stop_after,
    write_ablation,
    write_evaluation,
)  # fmt: skip

NAN = float("nan")


def test_every_back_end_is_tested() -> None:
    assert {check(Tracking(uri=uri)) for uri in URIS} == set(BACKENDS.values())


def test_what_is_created_is_found_by_its_identity_and_in_its_experiment(store: Tracking) -> None:
    tags = {"identity": "mine", "note": "**words**", "user": "me", "source": "a command", "commit": "abc"}
    made = connect(store).create("one", tags)
    child = connect(store).create("two", {"identity": "mine"}, parent=made.id)
    connect(store).create("three", {"identity": "another"})
    found = {run.id: run for run in connect(store).find("mine")}
    assert set(found) == {made.id, child.id}
    assert tags.items() <= found[made.id].tags.items()
    assert found[made.id].status == made.status == "RUNNING"
    assert connect(store.model_copy(update={"experiment": "elsewhere"})).find("mine") == []


def test_what_is_logged_is_known_with_its_last_value_if_it_is_a_number(store: Tracking) -> None:
    opened = connect(store)
    run = opened.create("one", {"identity": "mine", "colour": "red"}).id
    opened.log(run, params={"switch": (1, 2)}, metrics={"share": 0.5, "count": 3, "never": NAN}, tags={"size": "1"})
    opened.log(run, metrics={"share": 0.75}, tags={"colour": "blue"})
    (found,) = opened.find("mine")
    assert dict(found.metrics) == {"share": 0.75, "count": 3.0}
    assert {"colour": "blue", "size": "1"}.items() <= found.tags.items()


def test_the_points_of_a_curve_come_back_but_those_that_are_no_numbers(store: Tracking) -> None:
    opened = connect(store)
    run = opened.create("one", {"identity": "mine"}).id
    opened.curve(run, [])
    opened.curve(run, [{"step": 4, "loss": 0.5, "other": 1}, {"step": 8, "loss": NAN, "other": None}])
    opened.curve(run, [{"step": 12, "loss": 0.25}])
    assert opened.points(run, "loss") == {4: 0.5, 12: 0.25}
    assert opened.points(run, "other") == {4: 1.0}
    assert opened.points(run, "none") == {}
    (found,) = opened.find("mine")
    assert dict(found.metrics) == {"loss": 0.25, "other": 1.0}


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_run_ends_as_it_is_said_to(store: Tracking, status: str) -> None:
    opened = connect(store)
    opened.end(opened.create("one", {"identity": "mine"}).id, status)  # type: ignore[arg-type]
    assert [run.status for run in opened.find("mine")] == [status]


def test_what_runs_is_known_until_it_ends(store: Tracking) -> None:
    opened = connect(store)
    first, second, third = (opened.create(name, {"identity": name}).id for name in ("one", "two", "three"))
    opened.end(first, "FINISHED")
    opened.delete(third)
    assert [run.id for run in opened.running()] == [second]
    assert connect(store.model_copy(update={"experiment": "elsewhere"})).running() == []


def test_what_a_kill_left_running_is_killed_and_nothing_else(store: Tracking) -> None:
    opened = connect(store)
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    began = psutil.Process(gone.pid).create_time()
    gone.wait()
    mine = {key: value for key, value in machine().items() if key in ("machine.host", PROCESS)}
    tags = {
        "killed": mine | {PROCESS: f"{gone.pid} {began:.0f}"},
        "number given again": mine | {PROCESS: f"{os.getpid()} {began - 1000:.0f}"},
        "alive": mine,
        "elsewhere": {"machine.host": "another", PROCESS: f"{gone.pid} {began:.0f}"},
        "unknown": {},
    }
    for name, of in tags.items():
        opened.create(name, {"identity": "mine", "name": name, **of})
    end_killed(opened)
    killed = {run.tags["name"] for run in opened.find("mine") if run.status == "KILLED"}
    assert killed == {"killed", "number given again"}
    assert len(opened.running()) == 3


def test_a_deleted_run_is_gone_and_no_other(store: Tracking) -> None:
    opened = connect(store)
    first, second = (opened.create(name, {"identity": "mine"}).id for name in ("one", "two"))
    opened.delete(first)
    assert [run.id for run in opened.find("mine")] == [second]


def test_a_ablation_is_a_parent_with_a_child_per_seed(store: Tracking, tmp_path: Path) -> None:
    assert sync(store, CELL, write_ablation(tmp_path), write_evaluation(tmp_path)) == "added"
    found = runs(store)
    assert set(found) == {None, *SEEDS}
    assert {run.status for run in found.values()} == {"FINISHED"}
    assert (found[None].tags["role"], found[1].tags["role"]) == ("ablation", "member")
    assert (found[1].tags["converged"], found[2].tags["converged"]) == ("yes", "diverged")
    groups = {"ablation": CELL.name, "task": "addition", "positional": "none", "attention": "causal", "layers": "2"}
    groups |= {"residual_free_attention": "1", "residual_free_mlp": "1", "optimizer": "muon", "order_blind": "false"}
    assert groups.items() <= found[1].tags.items()
    assert found[1].metrics["validation_exact_match"] == 1.0
    assert found[1].metrics["test_exact_match"] == 0.9
    assert found[1].metrics["steps_to_converge"] == 8
    assert "steps_to_converge" not in found[2].metrics
    assert found[None].metrics["converged"] == 1
    assert found[None].metrics["converged_low"] < 0.5 < found[None].metrics["converged_high"]
    assert found[None].metrics["test_exact_match_max"] == 0.9
    assert "1 of 2 seeds converged" in found[None].tags["note"]


def test_what_is_not_a_number_is_left_out_of_the_curves(store: Tracking, tmp_path: Path) -> None:
    sync(store, CELL, write_ablation(tmp_path), None)
    shown = curves(store)
    assert shown[1, "train_loss"] == {4: 0.25, 8: 0.125}
    assert shown[2, "train_loss"] == {4: 0.25}
    assert shown[2, "validation_exact_match"] == {4: 0.0, 8: 0.0}
    assert shown[None, "members_converged"] == {4: 0.0, 8: 1.0}
    assert shown[None, "validation_exact_match"] == {4: 0.125, 8: 0.5}


def test_shown_live_then_from_the_files_then_again_is_shown_once(store: Tracking, tmp_path: Path) -> None:
    """And it is what the files alone would have shown."""
    with live(store) as watching:
        for step in STEPS:
            watching.log_evaluation(evaluations(step))
        while_training = curves(store)
        folder = write_ablation(tmp_path)
        watching.record(folder)
    recorded = runs(store)
    assert {run.status for run in recorded.values()} == {"FINISHED"}
    assert recorded[None].metrics["training_seconds"] > 0
    assert recorded[None].tags["machine.torch"]
    assert while_training.items() <= curves(store).items()
    assert sync(store, CELL, folder, write_evaluation(tmp_path)) == "completed"
    shown = curves(store)
    assert sync(store, CELL, folder, write_evaluation(tmp_path)) == "already there"
    assert curves(store) == shown
    assert ids(store) == {run.id for run in recorded.values()}
    elsewhere = store.model_copy(update={"experiment": "elsewhere"})
    sync(elsewhere, CELL, folder, write_evaluation(tmp_path))
    assert curves(elsewhere) == shown


def test_training_again_replaces_what_was_shown(store: Tracking, tmp_path: Path) -> None:
    sync(store, CELL, write_ablation(tmp_path), write_evaluation(tmp_path))
    before = ids(store)
    with live(store) as watching:
        assert before.isdisjoint(ids(store))
        watching.record(write_ablation(tmp_path))
    assert len(runs(store)) == 3


def test_altered_results_replace_those_shown(store: Tracking, tmp_path: Path) -> None:
    sync(store, CELL, write_ablation(tmp_path), write_evaluation(tmp_path))
    before = ids(store)
    folder = write_ablation(tmp_path, weights=b"others")
    assert sync(store, CELL, folder, write_evaluation(tmp_path)) == "added"
    after = ids(store)
    assert before.isdisjoint(after)
    assert len(after) == 3
    assert sync(store, CELL, folder, write_evaluation(tmp_path, exact=0.8)) == "completed"  # as many bytes as before
    assert ids(store) == after
    assert runs(store)[1].metrics["test_exact_match"] == 0.8


def test_an_evaluation_of_an_earlier_training_is_not_shown(store: Tracking, tmp_path: Path) -> None:
    sync(store, CELL, write_ablation(tmp_path), write_evaluation(tmp_path, of="another"))
    assert "test_exact_match" not in runs(store)[1].metrics


@pytest.mark.parametrize(("how", "status"), [(KeyboardInterrupt, "KILLED"), (ZeroDivisionError, "FAILED")])
def test_files_complete_a_run_that_was_stopped(
    store: Tracking, tmp_path: Path, how: type[BaseException], status: str
) -> None:
    stop_after(store, evaluations(STEPS[0]), how)
    stopped = runs(store)
    assert {run.status for run in stopped.values()} == {status}
    assert sync(store, CELL, write_ablation(tmp_path), None) == "completed"
    assert ids(store) == {run.id for run in stopped.values()}
    assert {run.status for run in runs(store).values()} == {"FINISHED"}
    assert curves(store)[1, "validation_exact_match"] == {4: 0.25, 8: 1.0}


def test_a_stopped_run_that_shows_something_else_is_replaced(store: Tracking, tmp_path: Path) -> None:
    stop_after(store, [row | {"validation_exact_match": 0.5} for row in evaluations(STEPS[0])], ZeroDivisionError)
    assert sync(store, CELL, write_ablation(tmp_path), None) == "added"
    assert curves(store)[1, "validation_exact_match"] == {4: 0.25, 8: 1.0}


def test_a_long_history_is_shown_whole(store: Tracking, tmp_path: Path) -> None:
    """Of more steps than MLflow takes in a request."""
    history = [row | {"step": 4 * step} for step in range(1, 402) for row in evaluations(4)]
    folder = write_ablation(tmp_path, history=history)
    sync(store, CELL, folder, None)
    assert len(curves(store)[1, "gradient_norm"]) == 401
    assert sync(store, CELL, folder, None) == "already there"


def test_runs_are_found_by_all_that_determines_their_result() -> None:
    others = [
        ablation("other", model_={"residual_free": [1]}),
        ablation(CELL.name, model_={"layers": 3, "residual_free": [1]}),
        ablation(CELL.name, model_={"residual_free": [1]}, steps=4),
        CELL.model_copy(update={"dataset": "other"}),
        *(
            CELL.model_copy(update={"task": task(**change)})
            for change in ({"seed": 2}, {"digits": 3}, {"reverse": False})
        ),
    ]
    assert len({result_digest(one, DATA) for one in [CELL, *others]} | {result_digest(CELL, {"train.csv": "d"})}) == 9
    said = CELL.model_copy(update={"model": CELL.model.model_copy(update={"dropout": 0.0})})
    assert result_digest(CELL, DATA) == result_digest(said, DATA)  # the default, said
