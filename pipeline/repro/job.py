"""Run a job of `repro`: stages of one ablation, one after the other; the job reports its progress."""

import time
from collections.abc import Sequence
from typing import Any

from pytorch_lightning import Callback, Trainer

from pipeline.params import Params
from pipeline.repro.progress import JobState
from pipeline.stages import analyze, evaluate, generate, settings, train
from pipeline.stages.progress import describe_converged_runs

STAGE_FUNCTIONS = {"generate": generate.run, "evaluate": evaluate.run, "analyze": analyze.run}
"""Functions that run the stages other than `train`, by the part of the stage's name before `@`."""


def run_stages(params: Params, job_name: str, stage_names: Sequence[str]) -> None:
    """Run the stages, given by their names in dvc.yaml (`train@<ablation>`, ...), and write the state of the job."""
    converged_text = ""
    for stage_name in stage_names:
        state = JobState(stage_name, converged_text=converged_text)
        state.write(job_name)
        kind, _, name = stage_name.partition("@")
        if kind == "train":
            settings.check_unchanged(params.ablation(name))
            reporter = ProgressReporter(job_name, state)
            train.run(params, name, [reporter])
            converged_text = reporter.state.converged_text
        else:
            STAGE_FUNCTIONS[kind](params, name)


class ProgressReporter(Callback):
    """Callback that writes the state of a job once a second while it trains: step and converged runs."""

    def __init__(self, job_name: str, state: JobState) -> None:
        self.job_name, self.state = job_name, state
        self.last_report_time = 0.0

    def on_train_batch_end(self, trainer: Trainer, module: Any, *args: Any) -> None:
        if (now := time.monotonic()) - self.last_report_time < 1.0:
            return
        self.last_report_time = now
        converged_text = describe_converged_runs(module)
        self.state = JobState(self.state.stage_name, trainer.global_step, trainer.max_steps, converged_text)
        self.state.write(self.job_name)
