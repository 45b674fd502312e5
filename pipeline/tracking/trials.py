"""Write the runs of a search to MLflow: a parent run, and a child run per trial.

All values come from Optuna's database, so that missing runs can be added at any time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation, Tracking
from pipeline.tracking.ablations import flatten_settings
from pipeline.tracking.contents import curve_metric
from pipeline.tracking.failures import BestEffortWriter
from pipeline.tracking.store import open_store


class TrialRuns(BestEffortWriter):
    """Writes the runs of one search to MLflow, and only warns if MLflow fails."""

    retry_command = "python -m pipeline search"

    def __init__(self, settings: Tracking, study: str, search_id: str, params: Mapping[str, Any]) -> None:
        """Open the MLflow store, and create the parent run of the search, with `params`, if it does not exist.

        The runs of this search are found again by the tag `search_id`. `study` is the name of Optuna's study.
        """
        self.study, self.search_id = study, search_id
        with self.warn_on_failure():
            self.store = open_store(settings)
            runs = self.store.find_runs(f"tags.search_id = '{search_id}'")
            trials = {int(run.data.tags["trial"]): run for run in runs if "trial" in run.data.tags}
            self.finished = {number for number, run in trials.items() if run.info.status == "FINISHED"}
            self.unfinished = {number: run for number, run in trials.items() if number not in self.finished}
            parents = [run for run in runs if run.data.tags["role"] == "search"]
            if not parents:
                tags = {"search_id": search_id, "role": "search", "mlflow.source.name": self.retry_command}
                parents = [self.store.create_run(study, tags)]
                self.store.log(parents[0], params=params)
            self.parent = parents[0]

    def write_trial(
        self, number: int, ablation: Ablation, attributes: Mapping[str, Any], values: Sequence[float]
    ) -> None:
        """Write the run of a trial, which trained `ablation`, unless MLflow has a finished run of that trial.

        `attributes` are the trial's user attributes in Optuna's database, `values` the values of the objectives.
        """
        if self.store is None or number in self.finished:
            return
        with self.warn_on_failure():
            if number in self.unfinished:
                self.store.client.delete_run(self.unfinished.pop(number).info.run_id)
            tags = {
                "search_id": self.search_id,
                "role": "trial",
                "trial": str(number),
                "task": ablation.dataset,
                **switches.switch_tags(ablation),
                **{name: str(attributes[name]) for name in ("repeats", "retries") if name in attributes},
            }
            run = self.store.create_run(f"trial-{number} {self.study}", tags, self.parent)
            self.store.log_curve(run, pd.DataFrame(attributes.get("curve", [])).rename(columns=curve_metric))
            metrics = attributes["result"] | {f"objective_{index}": value for index, value in enumerate(values)}
            params = {"trial": number} | flatten_settings(ablation)
            self.store.log(run, params=params, metrics=_summary(metrics))
            self.store.end_run(run, "FINISHED")
            self.finished.add(number)

    def finish_parent_run(self, metrics: Mapping[str, float]) -> None:
        """Log the metrics of the whole search to the parent run, and end that run."""
        if self.store is None:
            return
        with self.warn_on_failure():
            self.store.log(self.parent, metrics=_summary(metrics))
            self.store.end_run(self.parent, "FINISHED")


def _summary(metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"summary/{name}": value for name, value in metrics.items()}
