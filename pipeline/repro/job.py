"""Run a job of `repro`: stages of one ablation, one after the other; the job reports its progress."""

import time
from collections.abc import Sequence
from typing import Any

from pytorch_lightning import Callback, Trainer

from pipeline.params import Params
from pipeline.repro.state import JobState
from pipeline.stages import analyze, evaluate, generate, train
from pipeline.stages.progress import describe_converged_runs

REPORT_INTERVAL_SECONDS = 1.0
"""Seconds between two reports that a job writes while it trains."""
STAGE_FUNCTIONS = {"generate": generate.run, "evaluate": evaluate.run, "analyze": analyze.run}
"""Functions that run the stages other than `train`, by the part of the stage's name before `@`."""


def run_stages(params: Params, job_name: str, stage_names: Sequence[str]) -> None:
    """Run the stages, given by their names in dvc.yaml (`train@<ablation>`, ...), and write the state of the job."""
    for index, stage_name in enumerate(stage_names):
        JobState(stage_name, index).write(job_name)
        kind, _, name = stage_name.partition("@")
        if kind == "train":
            train.run(params, name, [ProgressReporter(job_name, stage_name, index)])
        else:
            STAGE_FUNCTIONS[kind](params, name)


class ProgressReporter(Callback):
    """Callback that writes the state of a job while it trains: step and number of converged runs."""

    def __init__(self, job_name: str, stage_name: str, finished_stage_count: int) -> None:
        self.job_name, self.stage_name, self.finished_stage_count = job_name, stage_name, finished_stage_count
        self.last_report_time = 0.0

    def on_train_batch_end(self, trainer: Trainer, module: Any, *args: Any) -> None:
        if (now := time.monotonic()) - self.last_report_time > REPORT_INTERVAL_SECONDS:
            self.last_report_time = now
            progress = trainer.global_step, trainer.max_steps, describe_converged_runs(module)
            JobState(self.stage_name, self.finished_stage_count, *progress).write(self.job_name)
