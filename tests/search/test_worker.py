"""Workers and the study they share, on every storage."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pandas as pd
import pytest
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState
from pytorch_lightning import LightningModule, Trainer
from sqlalchemy.engine import URL, make_url

from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.params import Ablation, Params, Tracking
from pipeline.search import space, table, trial
from pipeline.search.study import count_required_trials, open_study, storage_url
from pipeline.search.table import TableRows, TrialResult
from pipeline.search.trial import StopHopelessTrial, train_trial
from pipeline.search.worker import Worker, defer_interrupts
from pipeline.training import checkpoints
from tests.search.conftest import changed

Trained = tuple[TrialResult, TableRows]


def without_training(ablation: Ablation) -> Trained:
    """A result that depends on the ablation, without training: for tests of how workers share a study."""
    return TrialResult(1, 0, ablation.model.layers / 10, 0, 10, 1.0, 1.0, 0, 0), []


def work(params: Params, url: URL, train: Callable[[Ablation], Trained] = without_training) -> int:
    """Run a worker to the end of the study; return how many trials it ran."""
    return Worker(params, open_study(params, url, seeded=True), url, train).run_trials()


def train_in(folder: Path, params: Params, data: Dataset, url: URL) -> FrozenTrial:
    """Run a worker that trains, with its checkpoints in `folder`; return the last trial."""
    work(params, url, lambda ablation: train_trial(ablation, data, params.search, folder))
    return open_study(params, url).trials[-1]


def trials(params: Params, url: URL) -> pd.DataFrame:
    return table.build_trial_table(params, open_study(params, url))


def test_a_study_gets_its_trials_and_no_configuration_is_trained_twice(cheap: Params, url: URL) -> None:
    params = changed(cheap, trials=14, space={"layers": [1]})
    trained: list[str] = []

    def count(ablation: Ablation) -> Trained:
        trained.append(ablation.model_dump_json())
        return TrialResult(1, 0, len(trained) / 10, 0, 10, 1.0, 1.0, 0, 0), []

    assert work(params, url, train=count) == 14
    rows = trials(params, url)
    assert list(rows["state"]) == ["complete"] * 14
    assert len(trained) == len(set(trained)) <= space.count_configurations(params) == 4
    repeats = rows[rows["repeats"].notna()]
    assert len(repeats) == 14 - len(trained)
    columns = ["layers", "residual_free_attention", "residual_free_mlp", *TrialResult.__dataclass_fields__]
    assert (repeats[columns].to_numpy() == rows.loc[repeats["repeats"].astype(int), columns].to_numpy()).all()
    assert work(params, url) == 0  # the study is complete


def test_a_small_space_is_tried_in_full(cheap: Params, url: URL) -> None:
    space_of_six = {"residual_free": {"attention": ["searched"] * 2, "mlp": ["kept"] * 2}}
    params = changed(cheap, trials=50, enumerate_up_to=6, space=space_of_six)
    work(params, url)
    configurations = trials(params, url)[["layers", "residual_free_attention", "residual_free_mlp"]]
    assert len(configurations) == count_required_trials(params) == space.count_configurations(params) == 6
    assert not configurations.duplicated().any()


def test_more_trials_continue_the_study_and_another_space_starts_a_new_one(cheap: Params, url: URL) -> None:
    few = changed(cheap, trials=3)
    work(few, url)
    before = trials(few, url)
    work(cheap, url)
    pd.testing.assert_frame_equal(trials(cheap, url).head(3), before, check_dtype=False)
    assert len(trials(changed(cheap, space={"layers": [1]}), url)) > 0  # its first choices are queued
    assert len(trials(cheap, url)) == 8


def test_ctrl_c_puts_the_trial_back_and_the_next_worker_runs_it(cheap: Params, url: URL) -> None:
    def interrupt(ablation: Ablation) -> Trained:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(cheap, url, train=interrupt)
    work(cheap, url)
    lost, *others = open_study(cheap, url).trials
    assert lost.state == TrialState.FAIL
    assert [trial.state for trial in others] == [TrialState.COMPLETE] * 8
    assert [trial.params for trial in others if trial.user_attrs.get("retries") == 0] == [lost.params]
    assert (trials(cheap, url)["retries"] == 0).sum() == 1


def test_workers_side_by_side_neither_lose_nor_double_a_trial(cheap: Params, url: URL) -> None:
    def slowly(ablation: Ablation) -> Trained:
        time.sleep(0.02)
        return without_training(ablation)

    params = changed(cheap, trials=12)
    with ThreadPoolExecutor() as pool:
        workers = [pool.submit(work, params, url, slowly) for _ in range(4)]
    assert sum(worker.result() for worker in workers) == 12
    assert list(trials(params, url)["state"]) == ["complete"] * 12


@pytest.mark.parametrize("moment", ["set_user_attr", "set_constraint"])
def test_a_worker_whose_trial_another_one_failed_goes_on(
    cheap: Params, url: URL, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after all of the result is stored: a database that was away for long ends every worker's heartbeat."""
    store, failed = getattr(optuna.Trial, moment), []

    def fail_first_trial(trial: optuna.Trial, *arguments: object) -> None:
        store(trial, *arguments)
        if not failed:
            failed.append(trial.number)
            trial.study.tell(trial.number, state=TrialState.FAIL)

    monkeypatch.setattr(optuna.Trial, moment, fail_first_trial)
    work(cheap, url)
    states = trials(cheap, url)["state"]
    assert failed == [0]
    assert states.tolist() == ["failed"] + ["complete"] * count_required_trials(cheap)


def test_a_storage_of_another_version_is_refused(cheap: Params, url: URL) -> None:
    open_study(cheap, url)
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'v0.9.0.a'"))
    engine.dispose()
    with pytest.raises(UserError, match=r"search.storage: .*version"):
        open_study(cheap, url)


@pytest.mark.parametrize(
    ("storage", "tracking"),
    [
        ("sqlite:///:memory:", "sqlite:///mlflow.db"),
        ("sqlite:///./mlflow.db", "sqlite:///mlflow.db"),
        ("postgresql://me:secret@host/db", "postgresql+psycopg2://other@host:5432/db"),
    ],
)
def test_a_database_in_memory_or_of_mlflow_is_refused_and_left_alone(
    cheap: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str, tracking: str
) -> None:
    monkeypatch.chdir(tmp_path)
    params = changed(cheap, storage=storage).model_copy(update={"tracking": Tracking(uri=tracking)})
    with pytest.raises(UserError, match=r"search\.storage: .*(memory|tracking\.uri)") as refusal:
        open_study(params, storage_url(params.search, Path()))
    assert "secret" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_a_database_that_does_not_answer_is_refused_soon_and_without_the_password(cheap: Params) -> None:
    started = time.monotonic()
    for address in ("postgresql://me:secret@127.0.0.1:1/study", "sqlite:////proc/none/study.db"):
        with pytest.raises(UserError) as refusal:
            open_study(cheap, storage_url(changed(cheap, storage=address).search, Path()))
        assert "secret" not in str(refusal.value)
        assert "\n" not in str(refusal.value)
    assert time.monotonic() - started < 15


def test_a_trial_that_was_stopped_resumes_and_gives_the_same_result(
    cheap: Params, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, first_steps, stop = changed(cheap, trials=1, steps=8, give_up_below=0.0), [], {6}

    class Stopping(StopHopelessTrial):
        """Interrupts the training once, in the middle of a step."""

        def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
            first_steps.append(trainer.global_step)

        def on_train_batch_end(self, trainer: Trainer, *args: object) -> None:
            if trainer.global_step in stop:
                stop.clear()
                raise KeyboardInterrupt

    def result(name: str) -> list[object]:
        last = train_in(tmp_path / name, params, data, make_url(f"sqlite:///{tmp_path / name}.db"))
        return [last.user_attrs["result"], last.user_attrs["curve"]]

    monkeypatch.setattr(checkpoints, "MAX_TIME_SHARE", float("inf"))  # a checkpoint after every step
    monkeypatch.setattr(trial, "StopHopelessTrial", Stopping)
    with pytest.raises(KeyboardInterrupt):
        result("stopped")
    assert result("stopped") == result("alone")
    assert first_steps == [0, 5, 0]
    assert not list(tmp_path.rglob("*.ckpt"))


def with_training(params: Params, **settings: object) -> Params:
    return params.model_copy(update={"training": params.training.model_copy(update=settings)})


def test_divergence_is_a_finite_result_and_a_violated_constraint(cheap: Params, data: Dataset, tmp_path: Path) -> None:
    params = changed(cheap, trials=1, space={"learning_rate": [1e30], "optimizer": ["adamw"]})
    params = with_training(params, schedule="constant", gradient_clip=None)
    diverged = train_in(tmp_path, params, data, make_url(f"sqlite:///{tmp_path}/study.db"))
    assert diverged.user_attrs["result"]["diverged"] > 0
    assert 0 <= diverged.user_attrs["result"]["score"] <= 1
    assert diverged.constraints["diverged"] > 0


def test_hopeless_trials_stop_at_the_stated_step(cheap: Params, data: Dataset, tmp_path: Path) -> None:
    params = with_training(changed(cheap, steps=8, give_up_at=0.5, give_up_below=1.0), evaluate_every=2)
    ablation = space.build_ablation(params, space.extreme_choices(params)[0])
    result, curve = train_trial(ablation, data, params.search, tmp_path)
    assert (result.given_up, result.steps) == (1, 4)
    assert [row["step"] for row in curve] == [2, 4]
    assert train_trial(ablation, data, changed(params, give_up_below=0.0).search, tmp_path)[0].steps == 8


def test_the_first_objective_orders_by_converged_runs_then_by_score() -> None:
    ordered = [
        TrialResult(4, converged, score, 3, 10, 1.0, 1.0, 0, 0).objective_values[0]
        for converged in range(5)
        for score in (0.0, 0.3, 1.0)
    ]
    assert ordered == sorted(ordered)
    assert (ordered[0], ordered[-1]) == (0.0, 1.0)


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_waits_for_the_end_of_the_block_and_is_then_handled_as_before() -> None:
    done, handler = [], signal.getsignal(signal.SIGINT)

    def leave_early() -> None:
        with defer_interrupts():
            ctrl_c()
            ctrl_c()
            done.append("all")
            return

    with pytest.raises(KeyboardInterrupt):
        leave_early()
    assert done == ["all"]
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("came_before", [True, False])
def test_ctrl_c_interrupts_at_once_where_it_is_allowed(came_before: bool) -> None:
    done, handler = [], signal.getsignal(signal.SIGINT)

    def block() -> None:
        with defer_interrupts() as allow_interrupts:
            if came_before:
                ctrl_c()
            done.append("before")
            with allow_interrupts():
                ctrl_c()
                done.append("after")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["before"]
    assert signal.getsignal(signal.SIGINT) is handler
