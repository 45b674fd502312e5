"""Write the runs of a search to MLflow: a parent run, and a child run per trial.

All values come from Optuna's database, so that missing runs can be added at any time.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline import switches
from pipeline.params import Ablation, Tracking
from pipeline.tracking.ablations import flatten_settings
from pipeline.tracking.failures import BestEffortWriter
from pipeline.tracking.store import open_store

METRICS = ("runs", "converged", "probability", "residuals_kept", "area", "stopped", "diverged")
"""Columns of `trials.csv` that MLflow shows as metrics."""


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

    def write_trial(self, row: Mapping[Any, Any], ablation: Ablation, curve: Mapping[int, float]) -> None:
        """Write the run of a trial, which trained `ablation`, unless MLflow has a finished run of that trial.

        `row` is the trial's row in `trials.csv`, and `curve` the mean score of its runs: step -> score.
        """
        number = int(row["trial"])
        if self.store is None or number in self.finished:
            return
        with self.warn_on_failure():
            if number in self.unfinished:
                self.store.client.delete_run(self.unfinished.pop(number).info.run_id)
            tags = {"search_id": self.search_id, "role": "trial", "trial": str(number), "task": ablation.dataset}
            run = self.store.create_run(
                f"trial-{number} {self.study}", tags | switches.switch_tags(ablation), self.parent
            )
            self.store.log_curve(run, pd.DataFrame({"step": [*curve], "curve/score": [*curve.values()]}))
            metrics = {name: float(row[name]) for name in METRICS if pd.notna(row[name])}
            self.store.log(run, params={"trial": number} | flatten_settings(ablation), metrics=_summary(metrics))
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
