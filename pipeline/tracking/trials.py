"""The runs of a study: a parent, and a child per trial, written from what Optuna's storage holds, so that what is
missing can be filled in at any time."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import switches
from pipeline.params import Ablation, Tracking
from pipeline.tracking import BestEffort, Store, connect
from pipeline.tracking.ablations import settings_of


class TrialRuns(BestEffort):
    """The runs of one study, as far as the store answers."""

    later = "`python -m pipeline search` shows them later"

    def __init__(self, settings: Tracking, study: str, identity: str, about: Mapping[str, Any]) -> None:
        """`identity`: what the study's runs are found by. `about`: its parameters."""
        self.study, self.identity = study, identity
        with self.attempt():
            self.store = connect(settings)
            runs = self.store.find(identity)
            parents = [run.id for run in runs if run.tags.get("role") == "study"]
            self.parent = parents[0] if parents else self._begun(self.store, about)
            trials = {int(run.tags["trial"]): run for run in runs if "trial" in run.tags}
            self.shown = {number for number, run in trials.items() if run.status == "FINISHED"}
            self.half = {number: run.id for number, run in trials.items() if number not in self.shown}

    def _begun(self, store: Store, about: Mapping[str, Any]) -> str:
        tags = {"identity": self.identity, "role": "study", "source": "python -m pipeline search"}
        run = store.create(self.study, tags)
        store.log(run.id, params=about)
        return run.id

    def show(self, number: int, ablation: Ablation, attributes: Mapping[str, Any], values: Sequence[float]) -> None:
        """Write trial `number`, unless it is there; anew, if who began to write it was killed."""
        if self.store is None or number in self.shown:
            return
        with self.attempt():
            if half := self.half.pop(number, None):
                self.store.delete(half)
            tags = {
                "identity": self.identity,
                "role": "trial",
                "trial": str(number),
                "task": ablation.dataset,
                **switches.tags(ablation),
                **{name: str(attributes[name]) for name in ("repeats", "retries") if name in attributes},
            }
            run = self.store.create(f"trial-{number} {self.study}", tags, parent=self.parent)
            self.store.curve(run.id, attributes.get("curve", []))
            objectives = {f"objective_{place}": value for place, value in enumerate(values)}
            self.store.log(
                run.id, params={"trial": number} | settings_of(ablation), metrics=objectives | attributes["result"]
            )
            self.store.end(run.id, "FINISHED")
            self.shown.add(number)

    def finish(self, metrics: Mapping[str, float]) -> None:
        """The study is complete."""
        if self.store is None:
            return
        with self.attempt():
            self.store.log(self.parent, metrics=metrics)
            self.store.end(self.parent, "FINISHED")
