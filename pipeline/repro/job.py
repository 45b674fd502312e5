"""Run a job of `repro`: stages of one ablation, one after the other; the job reports its progress."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pytorch_lightning import Callback, Trainer

from pipeline.params import Params
from pipeline.repro.progress import MIN_TIMED_STEPS, JobState
from pipeline.stages import analyze, evaluate, generate, settings, train
from pipeline.stages.progress import describe_converged_runs

STAGE_FUNCTIONS = {"generate": generate.run, "evaluate": evaluate.run, "analyze": analyze.run}
"""Functions that run the stages other than `train`, by the part of the stage's name before `@`."""


def run_stages(params: Params, job_name: str, stage_names: Sequence[str]) -> None:
    """Run the stages, given by their names in dvc.yaml (`train@<ablation>`, ...), and write the state of the job."""
    state = JobState(stage_names[0], 0)
    for index, stage_name in enumerate(stage_names):
        state = replace(state, stage_name=stage_name, finished_stage_count=index, step=0, max_steps=0)
        state.write(job_name)
        kind, _, name = stage_name.partition("@")
        if kind == "train":
            settings.check_unchanged(params.ablation(name))
            reporter = ProgressReporter(job_name, state, len(stage_names))
            train.run(params, name, [reporter])
            state = reporter.state
        else:
            STAGE_FUNCTIONS[kind](params, name)


class ProgressReporter(Callback):
    """Callback that writes the state of a job once a second while it trains: step, converged runs and speed."""

    def __init__(self, job_name: str, state: JobState, stage_count: int) -> None:
        self.job_name, self.state, self.stage_count = job_name, state, stage_count
        self.last_report_time = 0.0

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        self.start_step, self.start_time = trainer.global_step, time.monotonic()
        start = replace(self.state, step=trainer.global_step, max_steps=trainer.max_steps)
        self.state = replace(start, start_share=start.finished_share(self.stage_count))

    def on_train_batch_end(self, trainer: Trainer, module: Any, *args: Any) -> None:
        if (now := time.monotonic()) - self.last_report_time < 1.0:
            return
        self.last_report_time = now
        self.state = replace(self.state, step=trainer.global_step, converged_text=describe_converged_runs(module))
        if trainer.global_step - self.start_step >= MIN_TIMED_STEPS:
            share = self.state.finished_share(self.stage_count) - self.state.start_share
            self.state = replace(self.state, timed_share=share, timed_seconds=now - self.start_time)
        self.state.write(self.job_name)
