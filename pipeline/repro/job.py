"""A job of the grid: stages of one ablation, one after the other in one process, that say how far they are."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from pipeline.params import Params
from pipeline.repro.state import State
from pipeline.stages import analyze, evaluate, generate, train
from pipeline.stages.progress import describe_converged

SECONDS = 1.0
"""How often a job says how far it is."""

OTHERS = {"generate": generate.run, "evaluate": evaluate.run, "analyze": analyze.run}
"""The stages of one name, beside `train`."""


def run(params: Params, job: str, stages: Sequence[str]) -> None:
    """Run `stages`, by their names in dvc.yaml (`train@<ablation>`, ...)."""
    for place, stage in enumerate(stages):
        State(stage, place).write(job)
        kind, _, name = stage.partition("@")
        one = partial(train.run, watching=[TellProgress(job, stage, place)]) if kind == "train" else OTHERS[kind]
        one(params, name)


class TellProgress(Callback):
    """Keeps the state of a job that trains."""

    def __init__(self, job: str, stage: str, place: int) -> None:
        self.job, self.stage, self.place = job, stage, place
        self.told_at = 0.0

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        if (now := time.monotonic()) - self.told_at > SECONDS:
            self.told_at = now
            converged = describe_converged(module)
            State(self.stage, self.place, trainer.global_step, trainer.max_steps, converged).write(self.job)
