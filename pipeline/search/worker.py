"""A worker: takes trials from the study until it has as many as wanted. Any number may work at once, on any machine."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL

from pipeline.dataset import Dataset
from pipeline.params import Ablation, Params, Search
from pipeline.search import space
from pipeline.search.interrupts import Held, defer_interrupts
from pipeline.search.objective import train
from pipeline.search.result import Curve, Result
from pipeline.search.study import LOST_AFTER, exclusive_access, is_enumerated, of_storage, trials_required
from pipeline.search.table import original

MOST_FAILURES = 3
"""Of the storage, one after the other, until a worker gives up."""
Train = Callable[[Ablation, Dataset, Search], tuple[Result, Curve]]
OnTrial = Callable[[FrozenTrial, Ablation], None]


def work(
    params: Params,
    study: optuna.Study,
    url: URL,
    data: Dataset,
    *,
    on_trial: OnTrial = lambda trial, ablation: None,
    train: Train = train,
) -> int:
    """Run trials until the study has all that are wanted; how many this worker ran.

    A trial that another worker left behind (its heartbeat stopped) is waited for and run again. Ctrl-C, and a storage
    that goes away, put the trial at hand back into the queue.
    """
    ran = failures = 0
    while True:
        try:
            did = _turn(params, study, url, data, on_trial, train)
            failures = 0
        except Exception as error:
            if of_storage(error) is None or (failures := failures + 1) > MOST_FAILURES:
                raise
            did = False
        if did is None:
            return ran
        ran += did
        if not did:
            time.sleep(1.0)


def _turn(params: Params, study: optuna.Study, url: URL, data: Dataset, on_trial: OnTrial, train: Train) -> bool | None:
    """Whether there was a trial to run; None: the study has all that are wanted."""
    # Ctrl-C between Optuna's writes would leave a trial that nobody runs.
    with defer_interrupts() as interrupt, ExitStack() as turn:
        turn.enter_context(exclusive_access(url))  # so that no two workers take the last trial
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING))
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        if len(complete) >= trials_required(params):
            return None
        if len(trials) < trials_required(params):
            trial = _Trial(params, url, data, complete, turn, interrupt, on_trial, train)
            return trial.optimize(study)
        _requeue_lost(study, LOST_AFTER * params.search.heartbeat)
    return False


class _Trial:
    """One trial, from the sampler's choice to the record of it."""

    def __init__(
        self,
        params: Params,
        url: URL,
        data: Dataset,
        complete: Sequence[FrozenTrial],
        turn: ExitStack,
        interrupt: Held,
        on_trial: OnTrial,
        train: Train,
    ) -> None:
        self.params, self.url, self.data, self.complete = params, url, data, complete
        self.turn, self.interrupt, self.on_trial, self.train = turn, interrupt, on_trial, train
        self.ablation: Ablation | None = None
        self.taken: Exception | KeyboardInterrupt | None = None
        """What ended the trial here, if another worker had taken this one for dead while the storage was away."""

    def optimize(self, study: optuna.Study) -> bool:
        """Run it; whether it was this worker's to its end."""
        try:
            with _quietly():
                study.optimize(self.run, n_trials=1, callbacks=[self.tell])
        except ValueError:  # Optuna's, of a trial that has ended
            if self.taken is None:
                raise
            if isinstance(self.taken, KeyboardInterrupt):
                raise self.taken from None
            return False
        return True

    def run(self, trial: optuna.Trial) -> tuple[float, float]:
        """Optuna's objective."""
        try:
            if not is_enumerated(self.params):  # brute force would choose what another worker is just choosing
                self.turn.close()
            chosen = space.suggest(trial, self.params)
            self.turn.close()
            self.ablation = space.ablation(self.params, chosen)
            with self.interrupt.heard():
                result, about = self._result(trial)
            for name, value in {"result": asdict(result), **about}.items():
                trial.set_user_attr(name, value)
            trial.set_constraint("diverged", float(result.diverged))
        except (KeyboardInterrupt, StorageInternalError, UpdateFinishedTrialError) as error:
            self._put_back(trial, error)
            raise
        return result.values

    def _put_back(self, trial: optuna.Trial, error: Exception | KeyboardInterrupt) -> None:
        """Into the queue, unless another worker has put it there."""
        self.turn.close()
        with exclusive_access(self.url):
            stored = trial.study.get_trials(deepcopy=False)[trial.number]
            if stored.state != TrialState.RUNNING:
                self.taken = error
            else:
                trial.study.enqueue_trial(trial.params, user_attrs={"retries": original(stored)})

    def _result(self, trial: optuna.Trial) -> tuple[Result, dict[str, Any]]:
        """Stored, where the configuration has been evaluated; else by training."""
        params = trial.params
        for earlier in self.complete:
            if earlier.params == params and "repeats" not in earlier.user_attrs:
                self._try_another(trial)
                return Result(**earlier.user_attrs["result"]), {"repeats": earlier.number}
        assert self.ablation is not None
        result, curve = self.train(self.ablation, self.data, self.params.search)
        return result, {"curve": curve}

    def _try_another(self, trial: optuna.Trial) -> None:
        """Queue a configuration that is new, drawn at random: on a small discrete space the sampler would repeat itself
        about every second time. Not beyond the trials that are wanted: what waits at the end is never run."""
        params = self.params
        if is_enumerated(params):
            return
        with exclusive_access(self.url):
            trials = trial.study.get_trials(deepcopy=False)
            if sum(one.state != TrialState.FAIL for one in trials) >= trials_required(params):
                return
            seen = [one.params or one.system_attrs.get("fixed_params", {}) for one in trials]
            generator = np.random.default_rng([params.search.seed, trial.number])
            if new := space.draw_new(params, seen, generator):
                trial.study.enqueue_trial(new)

    def tell(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Optuna's callback after the trial."""
        if self.ablation is not None and trial.state == TrialState.COMPLETE:
            self.on_trial(trial, self.ablation)


def _requeue_lost(study: optuna.Study, grace: float) -> None:
    """Have Optuna run again what stopped giving signs of life; end what never gave one, having been killed before."""
    with _quietly():
        optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        begun = trial.datetime_start or datetime.now()
        if not trial.params and datetime.now() - begun > timedelta(seconds=grace):
            study.tell(trial.number, state=TrialState.FAIL)


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
