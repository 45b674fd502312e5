"""Workers and the study they share, on every storage; trials are trained for real."""

import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy
from optuna.trial import TrialState
from pytorch_lightning import LightningModule, Trainer
from sqlalchemy.engine import URL, make_url

from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.params import Ablation, Params, Search
from pipeline.search import objective, space, table
from pipeline.search.objective import GiveUp, hopeless, train
from pipeline.search.result import Curve, Result
from pipeline.search.study import open_study, storage_url, trials_required
from pipeline.search.worker import work
from pipeline.training import checkpoints
from tests.search.conftest import changed


class Counting:
    """The real objective, and which ablations it was asked for."""

    def __init__(self) -> None:
        self.ablations: list[str] = []

    def __call__(self, ablation: Ablation, data: Dataset, search: Search) -> tuple[Result, Curve]:
        self.ablations.append(ablation.model_dump_json())
        return train(ablation, data, search)


def untrained(ablation: Ablation, data: Dataset, search: Search) -> tuple[Result, Curve]:
    """For tests of how a study is shared, not of what it finds."""
    return Result(1, 0, ablation.model.layers / 10, 0, 10, 1.0, 1.0, 0, 0), []


def test_a_study_gets_the_trials_it_wants_and_no_configuration_is_trained_twice(
    cheap: Params, data: Dataset, url: URL
) -> None:
    params = changed(cheap, trials=14, space={"layers": [1]})
    counting = Counting()
    study = open_study(params, url, seeded=True)
    ran = work(params, study, url, data, train=counting)
    found = table.trials(params, study)
    assert ran == len(found) == 14
    assert set(found["state"]) == {"complete"}
    assert len(counting.ablations) == len(set(counting.ablations)) <= space.size(params) == 4
    repeated = found[found["repeats"].notna()]
    assert len(repeated) == 14 - len(counting.ablations)
    for row in repeated.to_dict("records"):
        first = found.loc[int(row["repeats"])]
        for column in ("layers", "residual_free_attention", "residual_free_mlp", *Result.__dataclass_fields__):
            assert row[column] == first[column]
    assert work(params, study, url, data, train=counting) == 0  # nothing is left to do


def test_one_worker_of_a_fixed_seed_gives_the_same_table(cheap: Params, data: Dataset, tmp_path: Path) -> None:
    tables = []
    for name in ("one", "two"):
        where = make_url(f"sqlite:///{tmp_path / name / 'study.db'}")
        study = open_study(cheap, where, seeded=True)
        work(cheap, study, where, data)
        tables.append(table.trials(cheap, study).to_csv())
    assert tables[0] == tables[1]


def test_a_small_space_is_enumerated(cheap: Params, data: Dataset, url: URL) -> None:
    params = changed(cheap, trials=50, enumerate_up_to=20)
    study = open_study(params, url, seeded=True)
    work(params, study, url, data, train=untrained)
    found = table.trials(params, study)
    ablations = found[["layers", "residual_free_attention", "residual_free_mlp"]]
    assert len(found) == trials_required(params) == space.size(params) == 20
    assert not ablations.duplicated().any()


def test_more_trials_go_on_with_the_same_study(cheap: Params, data: Dataset, url: URL) -> None:
    few = changed(cheap, trials=3)
    study = open_study(few, url, seeded=True)
    work(few, study, url, data, train=untrained)
    before = table.trials(few, study)
    again = open_study(cheap, url, seeded=True)
    work(cheap, again, url, data, train=untrained)
    after = table.trials(cheap, again)
    assert again.study_name == study.study_name
    assert len(after) == 8
    pd.testing.assert_frame_equal(after.head(3), before, check_dtype=False)


def test_another_space_is_another_study_and_the_old_one_stays(cheap: Params, data: Dataset, url: URL) -> None:
    old = open_study(cheap, url, seeded=True)
    work(cheap, old, url, data, train=untrained)
    new = open_study(changed(cheap, steps=3), url, seeded=True)
    assert new.study_name != old.study_name
    assert len(open_study(cheap, url).trials) == 8


def test_ctrl_c_puts_the_trial_back_and_the_next_worker_runs_it(cheap: Params, data: Dataset, url: URL) -> None:
    def interrupted(ablation: Ablation, data: Dataset, search: Search) -> tuple[Result, Curve]:
        raise KeyboardInterrupt

    study = open_study(cheap, url, seeded=True)
    with pytest.raises(KeyboardInterrupt):
        work(cheap, study, url, data, train=interrupted)
    lost = study.trials[0]
    assert lost.state == TrialState.FAIL
    work(cheap, study, url, data, train=untrained)
    found = table.trials(cheap, study)
    assert (found["state"] == "complete").sum() == 8
    retried = found[found["retries"] == 0]
    assert len(retried) == 1
    assert study.trials[int(retried["trial"].item())].params == lost.params


def test_a_trial_that_was_stopped_goes_on_and_is_worth_the_same(
    cheap: Params, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, begun, stop = changed(cheap, trials=1, steps=8, give_up_below=0.0), [], {6}

    class Stopped(GiveUp):
        """In the middle of a step, once."""

        def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
            begun.append(trainer.global_step)

        def on_train_batch_end(self, trainer: Trainer, *args: object) -> None:
            if trainer.global_step in stop:
                stop.clear()
                raise KeyboardInterrupt

    def result(name: str) -> dict[str, object]:
        where = make_url(f"sqlite:///{tmp_path / name}.db")
        study = open_study(params, where, seeded=True)
        work(params, study, where, data, train=partial(train, checkpoints=tmp_path / name))
        return study.trials[-1].user_attrs["result"] | {"curve": study.trials[-1].user_attrs["curve"]}

    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))  # a checkpoint after every step
    monkeypatch.setattr(objective, "GiveUp", Stopped)
    with pytest.raises(KeyboardInterrupt):
        result("stopped")
    assert result("stopped") == result("alone")
    assert begun == [0, 5, 0]
    assert not list(tmp_path.rglob("*.ckpt"))


def test_workers_side_by_side_neither_lose_nor_double_a_trial(cheap: Params, data: Dataset, url: URL) -> None:
    def quick(ablation: Ablation, data: Dataset, search: Search) -> tuple[Result, Curve]:
        time.sleep(0.02)
        return untrained(ablation, data, search)

    params = changed(cheap, trials=24)
    open_study(params, url)
    ran: list[int] = []
    workers = [
        threading.Thread(target=lambda: ran.append(work(params, open_study(params, url), url, data, train=quick)))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = table.trials(params, open_study(params, url))
    assert list(found["state"]) == ["complete"] * 24
    assert sum(ran) == 24


def test_divergence_is_a_finite_result_and_a_broken_constraint(cheap: Params, data: Dataset, tmp_path: Path) -> None:
    params = changed(cheap, trials=2, space={"learning_rate": [1e30], "optimizer": ["adamw"]})
    params = params.model_copy(
        update={"training": params.training.model_copy(update={"schedule": "constant", "gradient_clip": None})}
    )
    where = make_url(f"sqlite:///{tmp_path / 'study.db'}")
    study = open_study(params, where, seeded=True)
    work(params, study, where, data)
    found = table.trials(params, study)
    assert found["diverged"].max() > 0
    assert found["score"].between(0, 1).all()
    diverged = study.trials[int(found["diverged"].idxmax())]
    assert diverged.constraints["diverged"] > 0


def test_hopeless_trials_stop_at_the_stated_step(cheap: Params, data: Dataset) -> None:
    params = changed(cheap, steps=8, give_up_at=0.5, give_up_below=1.0)
    params = params.model_copy(update={"training": params.training.model_copy(update={"evaluate_every": 2})})
    result, curve = train(space.ablation(params, space.extreme_choices(params)[0]), data, params.search)
    assert (result.given_up, result.steps) == (1, 4)
    assert [row["step"] for row in curve] == [2, 4]
    patient = changed(params, give_up_below=0.0)
    assert train(space.ablation(params, space.extreme_choices(params)[0]), data, patient.search)[0].steps == 8
    assert hopeless([0.0, 0.019], 0.02)
    assert not hopeless([0.03, 0.0], 0.02)
    assert GiveUp(100, 0.5, 0.02).step == 50


def test_the_first_value_orders_by_members_converged_then_by_exact_match() -> None:
    def value(converged: int, exact_match: float) -> float:
        return Result(4, converged, exact_match, 3, 10, 1.0, 1.0, 0, 0).values[0]

    ordered = [value(converged, exact) for converged in range(5) for exact in (0.0, 0.3, 1.0)]
    assert ordered == sorted(ordered)
    assert (ordered[0], ordered[-1]) == (0.0, 1.0)


def test_a_database_that_does_not_answer_is_refused_soon_and_without_the_password(cheap: Params) -> None:
    started = time.monotonic()
    for address in ("postgresql://me:secret@127.0.0.1:1/study", "sqlite:////proc/none/study.db"):
        where = storage_url(changed(cheap, storage=address).search, Path())
        with pytest.raises(UserError) as refused:
            open_study(cheap, where)
        assert "secret" not in str(refused.value)
        assert "\n" not in str(refused.value)
    assert time.monotonic() - started < 15


def test_a_storage_of_another_version_is_refused(cheap: Params, url: URL) -> None:
    open_study(cheap, url)
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'v0.9.0.a'"))
    engine.dispose()
    with pytest.raises(UserError, match="another version of Optuna"):
        open_study(cheap, url)


def test_importances_name_what_is_searched_in_one_order_whatever_the_hash_seed(
    cheap: Params, data: Dataset, tmp_path: Path
) -> None:
    where = make_url(f"sqlite:///{tmp_path / 'study.db'}")
    study = open_study(cheap, where, seeded=True)
    assert table.importances(study) == {}
    work(cheap, study, where, data)
    assert "layers" in table.importances(study)
    script = (
        "import optuna; from pipeline.search import table;"
        f"print(table.importances(optuna.load_study(study_name='{study.study_name}', storage='{where}')))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)  # which gave two orders
    }
    assert len(said) == 1
