"""A worker: runs trials of a study until it has enough. Any number of workers may run at once, on any machine."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL

from pipeline.dataset import Dataset
from pipeline.params import Ablation, Params, Search
from pipeline.search import space
from pipeline.search.study import (
    MISSED_HEARTBEATS,
    exclusive_access,
    ignore_experimental_warnings,
    is_enumerated,
    storage_error,
    trials_required,
)
from pipeline.search.table import Records, Result, first_attempt
from pipeline.search.trial import train

MOST_FAILURES = 3
"""Consecutive failures of the storage that a worker tolerates."""
Train = Callable[[Ablation, Dataset, Search], tuple[Result, Records]]
OnTrial = Callable[[optuna.Study, FrozenTrial], None]


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Block in which Ctrl-C waits until the block's end, except inside the context that `allow_interrupts()` returns.

    It sets a signal handler instead of a mask, because threads of libraries have no mask and would receive the signal.
    """
    pending: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        pending.append(number)
        raise KeyboardInterrupt

    @contextmanager
    def allow_interrupts() -> Iterator[None]:
        with _interrupt_handler(interrupt):
            if pending:
                raise KeyboardInterrupt
            yield

    with _interrupt_handler(lambda number, frame: pending.append(number)):
        yield allow_interrupts
    if pending:
        raise KeyboardInterrupt


@contextmanager
def _interrupt_handler(handler: Callable[[int, object], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # in Python only the main thread handles signals
        yield
        return
    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@dataclass
class Worker:
    """Runs trials of a study, one after the other."""

    params: Params
    study: optuna.Study
    url: URL
    data: Dataset
    on_trial: OnTrial = lambda study, trial: None
    """Called after each trial that this worker ran."""
    train: Train = train

    def work(self) -> int:
        """Run trials until the study has as many as required; return how many this worker ran.

        Trials of workers whose heartbeat stopped are awaited and run again. After Ctrl-C, or when the storage goes
        away, the current trial goes back into the queue.
        """
        trials_run = failures = 0
        while True:
            try:
                outcome = self._take_turn()
                failures = 0
            except Exception as error:
                failures += 1
                if storage_error(error) is None or failures > MOST_FAILURES:
                    raise
                outcome = "waited"
            if outcome == "study complete":
                return trials_run
            if outcome == "ran a trial":
                trials_run += 1
            else:
                time.sleep(1.0)

    def _take_turn(self) -> Literal["ran a trial", "waited", "study complete"]:
        """Run a trial if the study needs one; else put trials of dead workers back into the queue."""
        self.is_lost = False  # True: another worker requeued the trial, because the storage was away for too long
        # Ctrl-C between two of Optuna's writes would leave a trial that is never run
        with deferred_interrupts() as self.allow_interrupts, ExitStack() as self.lock:
            self.lock.enter_context(exclusive_access(self.url))  # so that no two workers take the last trial
            trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING))
            self.complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
            if len(self.complete) >= trials_required(self.params):
                return "study complete"
            if len(trials) < trials_required(self.params):
                return self._run_trial()
            self._requeue_lost()
        return "waited"

    def _run_trial(self) -> Literal["ran a trial", "waited"]:
        try:
            with ignore_experimental_warnings():
                self.study.optimize(self._objective, n_trials=1, callbacks=[self.on_trial])
        except ValueError:  # Optuna raises it for a trial that has ended already
            if not self.is_lost:
                raise
            return "waited"
        return "ran a trial"

    def _objective(self, trial: optuna.Trial) -> tuple[float, float]:
        try:
            if not is_enumerated(self.params):  # brute force must see what the other workers are choosing
                self.lock.close()
            choices = space.suggest(trial, self.params)
            self.lock.close()
            with self.allow_interrupts():
                result, attributes = self._result(trial, space.ablation(self.params, choices))
            for name, value in {"result": asdict(result), **attributes}.items():
                trial.set_user_attr(name, value)
            trial.set_constraint("diverged", float(result.diverged))
        except (KeyboardInterrupt, StorageInternalError, UpdateFinishedTrialError):
            self._requeue(trial)
            raise
        return result.values

    def _requeue(self, trial: optuna.Trial) -> None:
        """Put the trial back into the queue, unless another worker did."""
        self.lock.close()
        with exclusive_access(self.url):
            stored = self.study.get_trials(deepcopy=False)[trial.number]
            self.is_lost = stored.state != TrialState.RUNNING
            if not self.is_lost:
                self.study.enqueue_trial(trial.params, user_attrs={"retries": first_attempt(stored)})

    def _result(self, trial: optuna.Trial, ablation: Ablation) -> tuple[Result, dict[str, Any]]:
        """The stored result of the same configuration, or that of training it; and attributes to store beside it."""
        params = trial.params
        for earlier in self.complete:
            if earlier.params == params and "repeats" not in earlier.user_attrs:
                self._enqueue_new(trial)
                return Result(**earlier.user_attrs["result"]), {"repeats": earlier.number}
        result, curve = self.train(ablation, self.data, self.params.search)
        return result, {"curve": curve}

    def _enqueue_new(self, trial: optuna.Trial) -> None:
        """Queue a random new configuration, because in a small space the sampler repeats itself every second time. Not
        when enough trials are running or queued: the study would end without it."""
        if is_enumerated(self.params):
            return
        with exclusive_access(self.url):
            trials = self.study.get_trials(deepcopy=False)
            if sum(other.state != TrialState.FAIL for other in trials) >= trials_required(self.params):
                return
            seen = [other.params or other.system_attrs.get("fixed_params", {}) for other in trials]
            generator = np.random.default_rng([self.params.search.seed, trial.number])
            if choices := space.draw_new(self.params, seen, generator):
                self.study.enqueue_trial(choices)

    def _requeue_lost(self) -> None:
        """Put trials whose heartbeat stopped back into the queue; fail those whose worker died before the first one."""
        with ignore_experimental_warnings():
            optuna.storages.fail_stale_trials(self.study)
        grace = timedelta(seconds=MISSED_HEARTBEATS * self.params.search.heartbeat)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            started = trial.datetime_start or datetime.now()
            if not trial.params and datetime.now() - started > grace:
                self.study.tell(trial.number, state=TrialState.FAIL)
