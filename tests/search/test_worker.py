"""Workers and the study they share, on every storage."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import sqlalchemy
from optuna.pruners import ThresholdPruner
from optuna.trial import TrialState
from pytorch_lightning import LightningModule, Trainer
from sqlalchemy.engine import URL

from pipeline.dataset import Dataset
from pipeline.errors import RunError, UserError
from pipeline.params import Ablation, Params, Tracking
from pipeline.search import plan, space, worker
from pipeline.search.results import SearchResults
from pipeline.search.study import open_study, storage_url
from pipeline.search.worker import Rung, StopHopelessRuns, Worker, train_rung
from pipeline.training import checkpoints
from pipeline.training.fit import fit
from tests.conftest import easy
from tests.search.conftest import changed

Train = Callable[[Ablation], Rung]


def without_training(ablation: Ablation) -> Rung:
    """Results that depend on the ablation and the seeds, without training: more connections converge more often."""
    free, steps = ablation.model.residual_free, ablation.training.steps
    draw = np.random.default_rng([*ablation.training.seeds, *free.attention, 9, *free.mlp]).random
    runs = []
    for seed in ablation.training.seeds:
        converged = int(draw() < 1.0 - 0.2 * len(free.attention) - 0.1 * len(free.mlp))
        run = {"seed": seed, "steps": steps, "converged": converged, "steps_to_converge": steps if converged else None}
        runs.append({**run, "area": steps * draw(), "score": draw(), "stopped": 0, "diverged": 0})
    return {"runs": runs, "curve": [[1, 0.1], [2, 0.5]]}


def work(params: Params, url: URL, train: Train = without_training) -> int:
    """Run a worker to the end of the search; return how many trials it ran."""
    return Worker(params, open_study(params, url), url, train).run_trials()


def table(params: Params, url: URL) -> str:
    """The content of `trials.csv` and `runs.csv`."""
    results = SearchResults.read(params, open_study(params, url))
    return results.trials.to_csv() + results.runs.to_csv()


@pytest.fixture(scope="module")
def alone(cheap: Params, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tables of one undisturbed worker."""
    url = sqlalchemy.make_url(f"sqlite:///{tmp_path_factory.mktemp('alone')}/study.db")
    work(cheap, url)
    return table(cheap, url)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_gives_the_same_tables(cheap: Params, url: URL, alone: str, workers: int) -> None:
    def slowly(ablation: Ablation) -> Rung:
        time.sleep(0.05 * np.random.default_rng().random())
        return without_training(ablation)

    with ThreadPoolExecutor() as pool:
        counts = [pool.submit(work, cheap, url, slowly) for _ in range(workers)]
    assert sum(count.result() for count in counts) == 10
    assert table(cheap, url) == alone


@pytest.mark.parametrize("moment", [0, 3, 7])
def test_a_worker_that_ends_in_the_middle_changes_nothing(cheap: Params, url: URL, alone: str, moment: int) -> None:
    trained: list[tuple[str, str]] = []

    def interrupt(ablation: Ablation) -> Rung:
        if len(trained) == moment:
            trained.append(("", ""))
            raise KeyboardInterrupt
        trained.append((str(ablation.model), str(ablation.training.seeds)))
        return without_training(ablation)

    with pytest.raises(KeyboardInterrupt):
        work(cheap, url, interrupt)
    assert TrialState.RUNNING not in [trial.state for trial in open_study(cheap, url).trials]
    work(cheap, url, interrupt)
    assert table(cheap, url) == alone
    assert len(trained) == len(set(trained))  # no finished rung is trained again


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_worker_that_vanishes_changes_nothing(cheap: Params, url: URL, alone: str) -> None:
    """Its trial is left running, as by a killed process: before it began, or with the last heartbeat long ago."""
    study = open_study(cheap, url)
    plan.queue_trials(cheap, study)
    for _ in range(2):
        vanished = study.ask()
    vanished.set_user_attr("worker", "elsewhere 1")
    study._storage.record_heartbeat(vanished._trial_id)  # type: ignore[attr-defined]
    work(cheap, url)  # waits until both have missed three heartbeats
    assert table(cheap, url) == alone
    assert sum(trial.state == TrialState.FAIL for trial in open_study(cheap, url).trials) == 2


def test_patterns_are_distinct_and_generations_follow_from_the_ones_before(cheap: Params, url: URL) -> None:
    work(cheap, url)
    few = SearchResults.read(cheap, open_study(cheap, url)).trials
    assert few.groupby(["layers", "generation"]).size().to_dict() == {(1, 0): 4, (2, 0): 4, (2, 1): 2}
    assert list(few["state"]) == ["proved"] * 4 + ["complete"] * 6
    more = changed(cheap, trials=16)
    assert work(more, url) == 10
    many = SearchResults.read(more, open_study(more, url)).trials
    assert len(many[["layers", "residual_free_attention", "residual_free_mlp"]].drop_duplicates()) == len(many) == 20
    first = many[many["generation"] == 0].drop(columns="trial").reset_index(drop=True)
    pd.testing.assert_frame_equal(first, few[few["generation"] == 0].drop(columns="trial").reset_index(drop=True))


@pytest.mark.parametrize("name", ["TPESampler", "GPSampler", "RandomSampler"])
def test_every_sampler_finds_distinct_patterns_reproducibly(cheap: Params, tmp_path: Path, name: str) -> None:
    params, tables = changed(cheap, sampler={"name": name}, space={"learning_rate": {"low": 0.001, "high": 0.1}}), []
    for index in range(2 if name == "TPESampler" else 1):
        url = sqlalchemy.make_url(f"sqlite:///{tmp_path}/{index}.db")
        work(params, url)
        tables.append(table(params, url))
    assert tables[0] == tables[-1]
    results = SearchResults.read(params, open_study(params, url))
    assert results.trials["learning_rate"].between(0.001, 0.1).all()
    assert results.trials["learning_rate"].nunique() == len(results.trials) == 12


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"sampler": {"name": "CmaSampler"}}, ["search.sampler.name", "'CmaSampler'", "TPESampler"]),
        ({"sampler": {"name": "TPESampler", "gama": 1}}, ["search.sampler", "gama", "gamma"]),
        ({"pruner": {"name": "MedianPruner"}}, ["search.pruner.name", "'MedianPruner'", "ThresholdPruner"]),
        ({"pruner": {"name": "ThresholdPruner", "lower": 2, "upper": 1}}, ["search.pruner", "lower", "n_warmup_steps"]),
    ],
)
def test_a_sampler_or_pruner_that_optuna_does_not_have_is_refused(
    cheap: Params, settings: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(UserError) as error:
        plan.build(changed(cheap, **settings), *settings)  # type: ignore[arg-type]
    assert [word for word in named if word not in str(error.value)] == []
    plan.build(changed(cheap, pruner={"name": "PatientPruner", "patience": 3}), "pruner")


def test_the_dashboard_has_values_curves_and_attributes(cheap: Params, url: URL) -> None:
    work(cheap, url)
    for trial_ in open_study(cheap, url).get_trials(states=(TrialState.COMPLETE,)):
        assert trial_.value is not None
        assert "position" in trial_.user_attrs
        if trial_.user_attrs["position"][0] > 1:
            assert trial_.intermediate_values[2] == 0.5
            assert trial_.user_attrs["rung 0"]["runs"]
            assert "converges" in trial_.constraints


def test_a_trial_that_always_fails_ends_the_search(cheap: Params, url: URL) -> None:
    def interrupt(ablation: Ablation) -> Rung:
        raise KeyboardInterrupt

    only = changed(cheap, space={"layers": [2], "residual_free": {"attention": ["kept"] * 2, "mlp": ["kept"] * 2}})
    for _ in range(plan.MAX_FAILURES):
        with pytest.raises(KeyboardInterrupt):
            work(only, url, interrupt)
    with pytest.raises(RunError, match="failed 10 times"):
        work(only, url)


@pytest.mark.parametrize("moment", ["set_user_attr", "set_constraint"])
def test_a_worker_whose_trial_another_one_failed_goes_on(
    cheap: Params, url: URL, alone: str, moment: str, monkeypatch: pytest.MonkeyPatch
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
    assert len(failed) == 1
    assert table(cheap, url) == alone


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


def test_the_database_of_mlflow_is_refused_also_if_a_variable_names_it(
    cheap: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///shared.db")
    params = changed(cheap, storage="sqlite:///./shared.db")
    with pytest.raises(UserError, match=r"search\.storage: .*tracking\.uri"):
        open_study(params, storage_url(params.search, Path()))


def test_a_database_that_does_not_answer_is_refused_soon_and_without_the_password(cheap: Params) -> None:
    started = time.monotonic()
    for address in ("postgresql://me:secret@127.0.0.1:1/study", "sqlite:////proc/none/study.db"):
        with pytest.raises(UserError) as refusal:
            open_study(cheap, storage_url(changed(cheap, storage=address).search, Path()))
        assert "secret" not in str(refusal.value)
        assert "\n" not in str(refusal.value)
    assert time.monotonic() - started < 15


def with_training(params: Params, **settings: object) -> Params:
    return params.model_copy(update={"training": params.training.model_copy(update=settings)})


def trial_ablation(params: Params) -> Ablation:
    """The intact ablation of two layers, with the seeds of a rung of two."""
    ablation = space.build_ablation(params, 2, space.list_patterns(params, 2)[0])
    return ablation.model_copy(update={"training": ablation.training.model_copy(update={"seeds": [1, 2]})})


def test_a_rung_that_was_stopped_resumes_and_gives_the_same_results(
    cheap: Params, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ablation, first_steps, stop = trial_ablation(changed(cheap, steps=8)), [], {6}

    class Stopping(StopHopelessRuns):
        """Interrupts the training once, in the middle of a step."""

        def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
            first_steps.append(trainer.global_step)

        def on_train_batch_end(self, trainer: Trainer, *args: object) -> None:
            if trainer.global_step in stop:
                stop.clear()
                raise KeyboardInterrupt

    pruner = ThresholdPruner(lower=-1.0)
    monkeypatch.setattr(checkpoints, "MAX_TIME_SHARE", float("inf"))  # a checkpoint after every step
    monkeypatch.setattr(worker, "StopHopelessRuns", Stopping)
    with pytest.raises(KeyboardInterrupt):
        train_rung(ablation, data, pruner, tmp_path / "stopped")
    resumed = train_rung(ablation, data, pruner, tmp_path / "stopped")
    assert resumed == train_rung(ablation, data, pruner, tmp_path / "alone")
    assert first_steps == [0, 5, 0]
    assert not list(tmp_path.rglob("*.ckpt"))


def test_divergence_is_a_finite_result(cheap: Params, data: Dataset, tmp_path: Path) -> None:
    params = changed(cheap, space={"learning_rate": [1e30], "optimizer": ["adamw"]})
    ablation = trial_ablation(with_training(params, gradient_clip=None))
    rung = train_rung(ablation, data, ThresholdPruner(lower=-1.0), tmp_path)
    assert all(run["diverged"] and not run["converged"] and not run["stopped"] for run in rung["runs"])
    assert all(run["area"] == ablation.training.steps for run in rung["runs"])
    assert all(0 <= score <= 1 for _, score in rung["curve"])


def test_a_hopeless_run_stops_alone_and_counts_its_last_score_to_the_budget(data: Dataset, tmp_path: Path) -> None:
    """The runs that go on give what they give without a pruner."""
    from pipeline import dataset

    ablation = easy(seeds=[1, 2, 3], evaluate_every=10, stop_when_converged=False)
    dataset.write(tmp_path / "data", ablation.task)
    examples = dataset.read(tmp_path / "data", ablation.task)
    history = fit(ablation, examples).history
    at_30 = history[history["step"] == 30].set_index("seed")["validation_exact_match"]
    pruner = ThresholdPruner(lower=at_30.max(), n_warmup_steps=30, interval_steps=1000)
    rung = train_rung(ablation, examples, pruner, tmp_path / "checkpoints")
    runs = {run["seed"]: run for run in rung["runs"]}
    stopped = [seed for seed in at_30.index if at_30[seed] < at_30.max()]
    assert 0 < len(stopped) < 3
    for seed, run in runs.items():
        evaluations = history[(history["seed"] == seed) & (history["step"] <= run["steps"])]
        assert run["score"] == evaluations["validation_exact_match"].iloc[-1]
        assert run["steps"] == (30 if seed in stopped else 60)
        if seed in stopped:
            assert run["stopped"] == 1 - run["converged"]
            scores = evaluations["validation_exact_match"].to_numpy()
            if not run["converged"]:
                assert run["area"] == pytest.approx(10 * (1 - scores).sum() + 30 * (1 - scores[-1]))
