"""Write the runs of a search to MLflow: a parent run, and a child run per trial.

All values come from Optuna's database, so that missing runs can be added at any time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation, Tracking
from pipeline.tracking.ablations import flatten_settings
from pipeline.tracking.failures import BestEffortWriter
from pipeline.tracking.store import open_store


class TrialRuns(BestEffortWriter):
    """Writes the runs of one search to MLflow, and only warns if MLflow fails."""

    retry_command = "python -m pipeline search"

    def __init__(self, settings: Tracking, study: str, search_id: str, params: Mapping[str, Any]) -> None:
        """Open the MLflow store and create the parent run of the search if it does not exist.

        Args:
            settings: address of the MLflow store, and name of the experiment.
            study: name of Optuna's study.
            search_id: value of the tag `search_id`, by which the runs of this search are found again.
            params: parameters of the parent run.
        """
        self.study, self.search_id = study, search_id
        with self.warn_on_failure():
            self.store = open_store(settings)
            runs = self.store.find_runs("search_id", search_id)
            parents = [run for run in runs if run.data.tags["role"] == "search"]
            if not parents:
                tags = {"search_id": search_id, "role": "search", "mlflow.source.name": self.retry_command}
                parents = [self.store.create_run(study, tags)]
                self.store.log(parents[0].info.run_id, params=params)
            self.parent = parents[0].info.run_id
            trials = {int(run.data.tags["trial"]): run.info for run in runs if "trial" in run.data.tags}
            self.finished = {number for number, info in trials.items() if info.status == "FINISHED"}
            self.unfinished = {number: info.run_id for number, info in trials.items() if info.status != "FINISHED"}

    def write_trial(
        self, number: int, ablation: Ablation, attributes: Mapping[str, Any], values: Sequence[float]
    ) -> None:
        """Write the run of a trial to MLflow, unless MLflow has a finished run of that trial.

        Args:
            number: number of the trial.
            ablation: the ablation that the trial trained.
            attributes: user attributes that Optuna's database stores for the trial.
            values: values of the objectives.
        """
        if self.store is None or number in self.finished:
            return
        with self.warn_on_failure():
            if number in self.unfinished:
                self.store.delete_run(self.unfinished.pop(number))
            tags = {
                "search_id": self.search_id,
                "role": "trial",
                "trial": str(number),
                "task": ablation.dataset,
                **switches.switch_tags(ablation),
                **{name: str(attributes[name]) for name in ("repeats", "retries") if name in attributes},
            }
            run = self.store.create_run(f"trial-{number} {self.study}", tags, parent_id=self.parent).info.run_id
            self.store.log_curve(run, pd.DataFrame(attributes.get("curve", [])))
            objectives = {f"objective_{index}": value for index, value in enumerate(values)}
            params = {"trial": number} | flatten_settings(ablation)
            self.store.log(run, params=params, metrics=objectives | attributes["result"])
            self.store.end_run(run, "FINISHED")
            self.finished.add(number)

    def finish_parent_run(self, metrics: Mapping[str, float]) -> None:
        """Log the metrics of the whole search to the parent run, and end that run."""
        if self.store is None:
            return
        with self.warn_on_failure():
            self.store.log(self.parent, metrics=metrics)
            self.store.end_run(self.parent, "FINISHED")
