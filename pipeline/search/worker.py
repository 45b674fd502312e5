"""A worker runs trials until the search has enough. Any number of workers may run at once, on any machine."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL

from pipeline.params import Ablation, Params
from pipeline.search import space, study
from pipeline.search.table import TableRows, TrialResult, first_attempt_number


@contextmanager
def defer_interrupts() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Context manager that delays Ctrl-C until the `with` block ends.

    The block gets a function; inside the context manager that this function returns, Ctrl-C works at once. Ctrl-C is
    delayed by a signal handler, because a signal mask would not apply to threads of libraries: they would get the
    signal.
    """
    if threading.current_thread() is not threading.main_thread():  # in Python only the main thread handles signals
        yield nullcontext
        return
    pending: list[int] = []

    def interrupt(signal_number: int, frame: object) -> None:
        pending.append(signal_number)
        raise KeyboardInterrupt

    @contextmanager
    def allow_interrupts() -> Iterator[None]:
        deferring = signal.signal(signal.SIGINT, interrupt)
        try:
            if pending:
                raise KeyboardInterrupt
            yield
        finally:
            signal.signal(signal.SIGINT, deferring)

    original = signal.signal(signal.SIGINT, lambda number, frame: pending.append(number))
    try:
        yield allow_interrupts
    finally:
        signal.signal(signal.SIGINT, original)
    if pending:
        raise KeyboardInterrupt


@dataclass
class Worker:
    """Runs trials of a search, one after the other."""

    params: Params
    study: optuna.Study
    url: URL
    train: Callable[[Ablation], tuple[TrialResult, TableRows]]
    """Function that trains the runs of a trial and returns the trial's result and mean learning curve."""
    on_trial: Callable[[optuna.Study, FrozenTrial], None] = lambda _, trial: None
    """Function called after each trial that this worker ran."""

    def run_trials(self) -> int:
        """Run trials until the search has as many as required, and return the number of trials run by this worker.

        Trials of dead workers (three heartbeats missed) are run again. After Ctrl-C or a failure of the database, the
        current trial goes back into the queue.
        """
        trials_run = 0
        while (outcome := study.retry_storage_failures(self._run_or_requeue_trial)) != "study complete":
            if outcome == "ran a trial":
                trials_run += 1
            else:
                time.sleep(1.0)
        return trials_run

    def _run_or_requeue_trial(self) -> Literal["ran a trial", "waited", "study complete"]:
        """Run a trial if the search needs one; else put trials of dead workers back into the queue."""
        self.is_settled = False  # True: the trial has a result, or is back in the queue
        # Ctrl-C between two of Optuna's writes would leave a trial that is never run
        with defer_interrupts() as self.allow_interrupts, ExitStack() as self.lock:
            self.lock.enter_context(study.exclusive_access(self.url))  # so that no two workers take the last trial
            trials = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING))
            self.complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
            required = study.count_required_trials(self.params)
            if len(self.complete) >= required:
                return "study complete"
            if len(trials) >= required:
                self._requeue_lost_trials()
                return "waited"
            try:
                self.study.optimize(self._evaluate_objectives, n_trials=1, callbacks=[self.on_trial])
            except (ValueError, AssertionError):  # Optuna's, if another worker took this one for dead, failed the trial
                if not self.is_settled:
                    raise
                return "waited"
            return "ran a trial"

    def _evaluate_objectives(self, trial: optuna.Trial) -> tuple[float, float]:
        try:
            if not study.is_enumerated(self.params):  # brute force must see what the other workers are choosing
                self.lock.close()
            choices = space.suggest_choices(trial, self.params)
            self.lock.close()
            with self.allow_interrupts():
                attributes = self._reuse_result_or_train(trial, space.build_ablation(self.params, choices))
            for name, value in attributes.items():
                trial.set_user_attr(name, value)
            result = TrialResult(**attributes["result"])
            trial.set_constraint("diverged", float(result.diverged))
            self.is_settled = True
        except (KeyboardInterrupt, StorageInternalError, UpdateFinishedTrialError):
            self._requeue_trial(trial)
            raise
        return result.objective_values

    def _requeue_trial(self, trial: optuna.Trial) -> None:
        """Put an interrupted trial back into the queue of trials, unless another worker has done so."""
        self.lock.close()
        with study.exclusive_access(self.url):
            stored = self.study.get_trials(deepcopy=False)[trial.number]
            self.is_settled = True
            if stored.state == TrialState.RUNNING:
                self.study.enqueue_trial(trial.params, user_attrs={"retries": first_attempt_number(stored)})

    def _reuse_result_or_train(self, trial: optuna.Trial, ablation: Ablation) -> dict[str, Any]:
        """Take the result of an earlier trial with the same configuration, or train the ablation.

        Returns the attributes to store with the trial: `result`, and `repeats` (the earlier trial) or `curve`.
        """
        params = trial.params
        for earlier in self.complete:
            if earlier.params == params and "repeats" not in earlier.user_attrs:
                if not study.is_enumerated(self.params):
                    self._enqueue_unseen_choices(trial)
                return {"result": earlier.user_attrs["result"], "repeats": earlier.number}
        result, curve = self.train(ablation)
        return {"result": asdict(result), "curve": curve}

    def _enqueue_unseen_choices(self, trial: optuna.Trial) -> None:
        """Queue a random configuration that no trial has, unless enough trials are running or queued.

        In a small space every second choice of the sampler is a repetition.
        """
        with study.exclusive_access(self.url):
            trials = self.study.get_trials(deepcopy=False)
            if sum(other.state != TrialState.FAIL for other in trials) >= study.count_required_trials(self.params):
                return
            seen = [other.params or other.system_attrs.get("fixed_params", {}) for other in trials]
            generator = np.random.default_rng([self.params.search.seed, trial.number])
            if choices := space.draw_unseen_choices(self.params, seen, generator):
                self.study.enqueue_trial(choices)

    def _requeue_lost_trials(self) -> None:
        """Put trials of dead workers back into the queue, or fail them if they had no parameters yet."""
        optuna.storages.fail_stale_trials(self.study)
        grace = timedelta(seconds=study.MAX_MISSED_HEARTBEATS * self.params.search.heartbeat)
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            started = trial.datetime_start or datetime.now()
            if not trial.params and datetime.now() - started > grace:
                self.study.tell(trial.number, state=TrialState.FAIL)
