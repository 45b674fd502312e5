"""A job of `repro`: stages of one ablation, run one after the other in one process, which reports its progress."""

import time
from collections.abc import Sequence
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from pipeline.params import Params
from pipeline.repro.state import JobState
from pipeline.stages import analyze, evaluate, generate, train
from pipeline.stages.progress import describe_converged

REPORT_SECONDS = 1.0
"""Seconds between two reports of a job that trains."""
OTHER_STAGES = {"generate": generate.run, "evaluate": evaluate.run, "analyze": analyze.run}
"""The stages besides `train`, by their names in dvc.yaml."""


def run(params: Params, job: str, stages: Sequence[str]) -> None:
    """Run `stages`, given by their names in dvc.yaml (`train@<ablation>`, ...)."""
    for index, stage in enumerate(stages):
        JobState(stage, index).write(job)
        kind, _, name = stage.partition("@")
        if kind == "train":
            train.run(params, name, [ReportProgress(job, stage, index)])
        else:
            OTHER_STAGES[kind](params, name)


class ReportProgress(Callback):
    """Writes the state of a job that trains."""

    def __init__(self, job: str, stage: str, stages_done: int) -> None:
        self.job, self.stage, self.stages_done = job, stage, stages_done
        self.reported_at = 0.0

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        if (now := time.monotonic()) - self.reported_at > REPORT_SECONDS:
            self.reported_at = now
            state = JobState(
                self.stage, self.stages_done, trainer.global_step, trainer.max_steps, describe_converged(module)
            )
            state.write(self.job)
