"""Run a study to its end: start its workers, confirm the best configurations, show the trials in MLflow.

Lightning and MLflow are imported where they are used, so that an unreachable storage is reported at once.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL

from pipeline.dataset import Dataset
from pipeline.engines import ENGINES, LOCAL_ENGINE, Command, EngineName
from pipeline.errors import RunError, UserError
from pipeline.params import Params
from pipeline.reporting.search.results import SearchResults
from pipeline.reporting.wording import format_count
from pipeline.search import space, table
from pipeline.search.study import VARIABLE, completed_trials, exclusive_access, trials_required

if TYPE_CHECKING:
    from pipeline.tracking.trials import TrialRuns


@dataclass(frozen=True)
class Driver:
    """Runs the trials of one study, which is stored at `url`. Trainings that were stopped resume from `checkpoints`."""

    params: Params
    study: optuna.Study
    url: URL
    data: Dataset
    checkpoints: Path

    def run(self, *, workers: int, engine: EngineName, gpus: float | None) -> None:
        """Run the missing trials, then the missing confirmations; in this process if it is the only worker."""
        in_process = workers == 1 and engine == LOCAL_ENGINE  # a further process would take seconds to start
        storage = {VARIABLE: self.url.render_as_string(hide_password=False)}

        def start(arguments: Sequence[Sequence[str]]) -> None:
            commands = [Command.pipeline_command("search", *options, environment=storage) for options in arguments]
            ENGINES[engine].run(commands, max_workers=workers, gpus_per_command=gpus)

        if not self.is_complete:
            if in_process:
                self.work()
            else:
                start([["--worker"]] * workers)
        if not self.is_complete or not (trials := read_results(self.params, self.study).unconfirmed):
            return
        print(f"confirmation with fresh seeds of trials {', '.join(map(str, trials))}", file=sys.stderr)
        if in_process:
            for trial in trials:
                self.confirm(trial)
        else:
            start([["--confirm", str(trial)] for trial in longest_first(self.study, trials)])

    @property
    def is_complete(self) -> bool:
        """Whether the study has all trials that are required."""
        return completed_trials(self.study) >= trials_required(self.params)

    def work(self) -> int:
        """Run trials as one worker, show each in MLflow and report it on stderr; return how many it ran."""
        from pipeline.search.trial import train
        from pipeline.search.worker import Worker

        with exclusive_access(self.url):  # so that only one worker creates the parent run
            runs = self._mlflow_runs()

        def report(_: optuna.Study, trial: FrozenTrial) -> None:
            ablation = space.ablation(self.params, trial.params)
            runs.show(trial.number, ablation, trial.user_attrs, trial.values)
            result = table.Result(**trial.user_attrs["result"])
            known = ", known already" if "repeats" in trial.user_attrs else ""
            print(
                f"trial {trial.number} (of {trials_required(self.params)}): "
                f"{format_count(ablation.model.layers, 'layer')}, "
                f"{format_count(result.residuals_kept, 'residual connection')}, "
                f"converged {result.converged}/{result.runs}, score {result.score:.3f}{known}",
                file=sys.stderr,
            )

        train_trial = partial(train, checkpoints=self.checkpoints)
        return Worker(self.params, self.study, self.url, self.data, report, train_trial).work()

    def confirm(self, trial: int) -> None:
        """Train a trial's ablation again with the seeds of `search.confirm`, and store the outcome.

        Raises:
            UserError: the trial is not among those to be confirmed.
        """
        from pipeline.search.trial import confirm

        if trial not in (unconfirmed := read_results(self.params, self.study).unconfirmed):
            raise UserError(f"--confirm: trial {trial} needs no confirmation (those that do: {unconfirmed or 'none'})")
        ablation = table.ablations_by_trial(self.params, self.study)[trial]
        runs = confirm(ablation, self.data, self.params.search.confirm, checkpoints=self.checkpoints)
        table.store_confirmation(self.study, trial, runs)

    def finish(self, results: SearchResults) -> None:
        """Show in MLflow the trials that it lacks, and end the study's run.

        Raises:
            RunError: trials or confirmations are missing.
        """
        with exclusive_access(self.url):  # the first of many machines does it
            runs = self._mlflow_runs()
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                runs.show(trial.number, results.ablations[trial.number], trial.user_attrs, trial.values)
        complete = completed_trials(self.study)
        if not self.is_complete or results.unconfirmed:
            raise RunError(
                f"search: no worker is left, but {complete} of {trials_required(self.params)} trials are complete and "
                f"{len(results.unconfirmed)} wait for confirmation; the same command goes on"
            )
        confirmed = {f"confirmed_{trial}": float(runs["converged"].sum()) for trial, runs in results.confirmed.items()}
        runs.finish({"trials": complete, "retried": float(results.trials["retries"].notna().sum())} | confirmed)

    def _mlflow_runs(self) -> "TrialRuns":
        """The study's runs in MLflow; only one process at a time may open them."""
        from pipeline.tracking.trials import TrialRuns

        settings = self.params.search.model_dump(mode="json", exclude={"storage"})
        return TrialRuns(self.params.tracking, self.study.study_name, str(self.study.user_attrs["begun"]), settings)


def read_results(params: Params, study: optuna.Study) -> SearchResults:
    """Results of the study so far, without importances, which take seconds to compute."""
    ablations = table.ablations_by_trial(params, study)
    confirmed = table.confirmations(study, list(ablations), params.search.confirm)
    trials, required = table.trials(params, study), trials_required(params)
    return SearchResults(study.study_name, params, trials, ablations, required, space.size(params), confirmed=confirmed)


def longest_first(study: optuna.Study, trials: Iterable[int]) -> list[int]:
    """Trials by their duration: if the longest start first, workers side by side end soonest."""
    durations = {trial.number: trial.duration or timedelta() for trial in study.get_trials(deepcopy=False)}
    return sorted(trials, key=durations.__getitem__, reverse=True)
