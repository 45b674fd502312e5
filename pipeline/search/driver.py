"""Run a search to its end: start the workers, train the best configurations again, write the trials to MLflow.

Lightning and MLflow are imported where they are used, so that an unreachable storage is reported at once.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL

from pipeline.dataset import Dataset
from pipeline.engines import ENGINES, LOCAL_ENGINE, Command, EngineName, Limits
from pipeline.errors import RunError, UserError
from pipeline.params import Ablation, Params
from pipeline.reporting.wording import count_in_words
from pipeline.search import space, table
from pipeline.search.results import SearchResults
from pipeline.search.study import (
    STORAGE_VARIABLE,
    count_completed_trials,
    count_required_trials,
    exclusive_access,
    retry_storage_failures,
)

if TYPE_CHECKING:
    from pipeline.tracking.trials import TrialRuns


@dataclass(frozen=True)
class SearchDriver:
    """Runs the trials of one search. Its study is in the database at `url`; a training that was killed resumes from the
    folder `checkpoints`."""

    params: Params
    study: optuna.Study
    url: URL
    data: Dataset
    checkpoints: Path

    def run_until_complete(self, worker_count: int, engine: EngineName, gpus_per_worker: float) -> None:
        """Run the missing trials, and then train the best configurations again with fresh seeds.

        The processes that do so run on the `engine`; a single local worker runs in this process.
        """
        in_process = worker_count == 1 and engine == LOCAL_ENGINE  # a further process would take seconds to start
        storage = {STORAGE_VARIABLE: self.url.render_as_string(hide_password=False)}

        def run_processes(option_lists: Sequence[Sequence[str]]) -> None:
            commands = [Command.pipeline_command("search", *options, environment=storage) for options in option_lists]
            ENGINES[engine].run(commands, Limits(worker_count, gpus_per_worker), lambda index, exit_code: None)

        if not self.is_complete:
            if in_process:
                self.run_trials_in_process()
            else:
                run_processes([["--worker"]] * worker_count)
        if not self.is_complete or not (trials := read_results(self.params, self.study).unconfirmed_trials):
            return
        print(f"confirmation with fresh seeds of trials {', '.join(map(str, trials))}", file=sys.stderr)
        if in_process:
            for trial in trials:
                self.confirm_trial(trial)
        else:  # workers that start with the longest finish earliest
            durations = {trial.number: trial.duration or timedelta() for trial in self.study.get_trials(deepcopy=False)}
            longest_first = sorted(trials, key=durations.__getitem__, reverse=True)
            run_processes([["--confirm", str(trial)] for trial in longest_first])

    @property
    def is_complete(self) -> bool:
        """True if the search has as many complete trials as `params` require."""
        return count_completed_trials(self.study) >= count_required_trials(self.params)

    def run_trials_in_process(self) -> int:
        """Run trials in this process until the search has enough, and return the number of trials run here.

        Each trial is written to MLflow and reported on stderr.
        """
        from pipeline.search.trial import train_trial
        from pipeline.search.worker import Worker

        runs = retry_storage_failures(self._open_mlflow_runs)

        def report_trial(_: optuna.Study, trial: FrozenTrial) -> None:
            ablation = space.build_ablation(self.params, trial.params)
            runs.write_trial(trial.number, ablation, trial.user_attrs, trial.values)
            result = table.TrialResult(**trial.user_attrs["result"])
            layers = count_in_words(ablation.model.layers, "layer")
            connections = count_in_words(result.residuals_kept, "residual connection")
            scores = f"converged {result.converged}/{result.runs}, score {result.score:.3f}"
            repeated = ", known already" if "repeats" in trial.user_attrs else ""
            number = f"trial {trial.number} (of {count_required_trials(self.params)})"
            print(f"{number}: {layers}, {connections}, {scores}{repeated}", file=sys.stderr)

        def train(ablation: Ablation) -> tuple[table.TrialResult, table.TableRows]:
            return train_trial(ablation, self.data, self.params.search, self.checkpoints)

        return Worker(self.params, self.study, self.url, train, report_trial).run_trials()

    def confirm_trial(self, trial: int) -> None:
        """Train the ablation of a trial again with the seeds of `search.confirm`, and store the results of the runs."""
        from pipeline.search.trial import train_with_fresh_seeds

        results = read_results(self.params, self.study)
        if trial not in (unconfirmed := results.unconfirmed_trials):
            raise UserError(f"--confirm: trial {trial} needs no confirmation (those that do: {unconfirmed or 'none'})")
        seeds = self.params.search.confirm
        runs = train_with_fresh_seeds(results.ablations[trial], self.data, seeds, self.checkpoints)
        self.study.set_user_attr(f"confirmed-{trial}", runs)

    def finish_search(self, results: SearchResults) -> None:
        """Write to MLflow the trials that are missing there, and end the run of the search if nothing is missing."""
        runs = self._open_mlflow_runs()
        with exclusive_access(self.url):  # the first of many machines does it
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                runs.write_trial(trial.number, results.ablations[trial.number], trial.user_attrs, trial.values)
        complete, unconfirmed = count_completed_trials(self.study), len(results.unconfirmed_trials)
        if not self.is_complete or unconfirmed:
            raise RunError(
                f"search: no worker is left, but {complete} of {count_required_trials(self.params)} trials are "
                f"complete and {unconfirmed} wait for confirmation; the same command goes on"
            )
        metrics = {"trials": float(complete), "retried": float(results.trials["retries"].notna().sum())}
        for number, confirmation in results.confirmation_runs.items():
            metrics[f"confirmed_{number}"] = float(confirmation["converged"].sum())
        runs.finish_parent_run(metrics)

    def _open_mlflow_runs(self) -> "TrialRuns":
        from pipeline.tracking.trials import TrialRuns

        settings = self.params.search.model_dump(mode="json", exclude={"storage"})
        with exclusive_access(self.url):  # so that only one worker creates the parent run
            return TrialRuns(self.params.tracking, self.study.study_name, str(self.study.user_attrs["begun"]), settings)


def read_results(params: Params, study: optuna.Study) -> SearchResults:
    """Return the results of a search so far, without the importances of parameters, which take seconds to compute."""
    ablations, stored = table.ablations_by_trial(params, study), study.user_attrs
    confirmed = {}
    for trial in ablations:
        runs = stored.get(f"confirmed-{trial}", [])
        if runs and [run["seed"] for run in runs] == params.search.confirm:
            confirmed[trial] = pd.DataFrame(runs)
    trials, required = table.build_trial_table(params, study), count_required_trials(params)
    size = space.count_configurations(params)
    return SearchResults(study.study_name, params, trials, ablations, required, size, confirmation_runs=confirmed)
