"""The runs of a search in MLflow: a parent run, and a child run per trial. They are written from what Optuna's storage
holds, so that missing ones can be added at any time."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation, Tracking
from pipeline.tracking.ablations import flat_settings
from pipeline.tracking.failures import BestEffortWriter
from pipeline.tracking.store import connect


class TrialRuns(BestEffortWriter):
    """Writer of the runs of one search, as long as MLflow answers."""

    rebuild_command = "python -m pipeline search"

    def __init__(self, settings: Tracking, study: str, search_id: str, params: Mapping[str, Any]) -> None:
        """Open the store and create the parent run if it does not exist.

        Args:
            study: name of Optuna's study.
            search_id: value of the tag `search_id` by which the runs are found again.
            params: the parent run's parameters.
        """
        self.study, self.search_id = study, search_id
        with self.warn_on_failure():
            self.store = connect(settings)
            runs = self.store.find("search_id", search_id)
            parents = [run for run in runs if run.data.tags["role"] == "search"]
            if not parents:
                tags = {"search_id": search_id, "role": "search", "mlflow.source.name": self.rebuild_command}
                parents = [self.store.create(study, tags)]
                self.store.log(parents[0].info.run_id, params=params)
            self.parent = parents[0].info.run_id
            trials = {int(run.data.tags["trial"]): run.info for run in runs if "trial" in run.data.tags}
            self.finished = {number for number, info in trials.items() if info.status == "FINISHED"}
            self.unfinished = {number: info.run_id for number, info in trials.items() if info.status != "FINISHED"}

    def show(self, number: int, ablation: Ablation, attributes: Mapping[str, Any], values: Sequence[float]) -> None:
        """Write the run of trial `number` if there is none. One that a killed process left unfinished is replaced."""
        if self.store is None or number in self.finished:
            return
        with self.warn_on_failure():
            if number in self.unfinished:
                self.store.delete(self.unfinished.pop(number))
            tags = {
                "search_id": self.search_id,
                "role": "trial",
                "trial": str(number),
                "task": ablation.dataset,
                **switches.switch_tags(ablation),
                **{name: str(attributes[name]) for name in ("repeats", "retries") if name in attributes},
            }
            run = self.store.create(f"trial-{number} {self.study}", tags, parent=self.parent).info.run_id
            self.store.log_curve(run, pd.DataFrame(attributes.get("curve", [])))
            objectives = {f"objective_{index}": value for index, value in enumerate(values)}
            params = {"trial": number} | flat_settings(ablation)
            self.store.log(run, params=params, metrics=objectives | attributes["result"])
            self.store.end(run, "FINISHED")
            self.finished.add(number)

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Log the results of the whole search, and end its run."""
        if self.store is None:
            return
        with self.warn_on_failure():
            self.store.log(self.parent, metrics=metrics)
            self.store.end(self.parent, "FINISHED")
