"""The trials of a study as MLflow runs: a parent per study, a child per trial, written from what Optuna's storage
holds, so that what is missing can be filled in at any time."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import tracking
from pipeline.params import Cell, Tracking


class TrialRuns:
    """The runs of one study. A store that does not answer costs a warning, once, and no trial."""

    def __init__(self, settings: Tracking, study: str, identity: str, about: Mapping[str, Any]) -> None:
        self.study, self.identity = study, identity
        self.store: tracking.Store | None = None
        self.parent = ""
        try:
            self.store = tracking.connect(settings)
            runs = self.store.find(identity)
            parents = [run.info.run_id for run in runs if run.data.tags.get("role") == "study"]
            self.parent = parents[0] if parents else self._begin(about)
            trials = {int(run.data.tags["trial"]): run.info for run in runs if "trial" in run.data.tags}
            self.shown = {number for number, run in trials.items() if run.status == "FINISHED"}
            self.begun = {number: run.run_id for number, run in trials.items() if number not in self.shown}
        except Exception as error:
            self._give_up(error)

    def _begin(self, about: Mapping[str, Any]) -> str:
        assert self.store is not None
        tags = {"identity": self.identity, "role": "study", "mlflow.source.name": "python -m pipeline search"}
        run = self.store.create(self.study, tags)
        self.store.describe(run, params=about, metrics={}, finished=False)
        return run

    def show(self, number: int, cell: Cell, attributes: Mapping[str, Any], values: Sequence[float]) -> None:
        """Write trial `number`, unless it is there; anew, if who began to write it was killed."""
        if self.store is None or number in self.shown:
            return
        try:
            if half := self.begun.pop(number, None):
                self.store.client.delete_run(half)
            free = cell.model.residual_free
            tags = {
                "identity": self.identity,
                "mlflow.parentRunId": self.parent,
                "role": "trial",
                "trial": str(number),
                "positional": cell.model.positional,
                "layers": str(cell.model.layers),
                "residual_free_attention": " ".join(map(str, free.attention)) or "none",
                "residual_free_mlp": " ".join(map(str, free.mlp)) or "none",
                "optimizer": cell.training.optimizer,
                **{name: str(attributes[name]) for name in ("repeats", "retries") if name in attributes},
            }
            run = self.store.create(f"{self.study}/trial-{number}", tags)
            self.store.curve(run, attributes.get("curve", []))
            sections = {"model": cell.model, "training": cell.training}
            params = {f"{name}.{key}": value for name, section in sections.items() for key, value in section}
            metrics = {"objective_0": values[0], "objective_1": values[1]} | {
                name: float(value) for name, value in attributes["result"].items()
            }
            self.store.describe(run, params={"trial": number, **params}, metrics=metrics, finished=True)
            self.shown.add(number)
        except Exception as error:
            self._give_up(error)

    def finish(self, metrics: Mapping[str, float]) -> None:
        """The study is complete."""
        if self.store is None:
            return
        try:
            self.store.describe(self.parent, params={}, metrics=metrics, finished=True)
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.store = None
        tracking.warn(error, "`python -m pipeline search` shows them later")
