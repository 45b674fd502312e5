"""Callback that displays the progress of a training on stderr."""

import sys
import time
from typing import Any

import pandas as pd
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.training.convergence import compute_run_outcomes
from pipeline.training.module import PopulationModule

STEPS_PER_BAR_UPDATE = 10
"""Number of training steps between two updates of the progress bar."""


class ProgressDisplay(Callback):
    """Callback that displays step, loss, score, converged runs and remaining time of a training.

    On a terminal it draws a progress bar, elsewhere it prints a line after every evaluation.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        left, right = TextColumn("{task.description}"), TextColumn("{task.fields[state]}")
        columns = (left, BarColumn(), MofNCompleteColumn(), right, TimeRemainingColumn())
        self.progress_bar = Progress(*columns, console=console, disable=not console.is_terminal)

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.start_time = time.monotonic()
        self.progress_bar.start()
        self.bar_task = self.progress_bar.add_task(
            as_population_module(module).ablation.name, total=trainer.max_steps, state=""
        )

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        if trainer.global_step % STEPS_PER_BAR_UPDATE == 0:
            self.progress_bar.update(self.bar_task, completed=trainer.global_step)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        step, steps = trainer.global_step, trainer.max_steps
        state = describe_last_evaluation(as_population_module(module))
        self.progress_bar.update(self.bar_task, completed=step, state=state)
        if self.progress_bar.disable:
            left = (time.monotonic() - self.start_time) * (steps - step) / max(1, step)
            name = as_population_module(module).ablation.name
            print(f"{name}: step {step}/{steps}, {state}, at most {left:.0f} s left", file=sys.stderr)

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.progress_bar.stop()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self.progress_bar.stop()


def as_population_module(module: LightningModule) -> PopulationModule:
    """Return the module that a callback receives, typed as `PopulationModule`."""
    assert isinstance(module, PopulationModule)
    return module


def describe_last_evaluation(module: PopulationModule) -> str:
    """Describe a training in words: mean loss and score of the runs' last evaluations, and number of converged runs."""
    last = pd.DataFrame(module.history).drop_duplicates("seed", keep="last")
    rule = module.convergence
    parts = [f"loss {last['validation_loss'].mean():.3f}", f"{rule.score.label} {last[rule.score_column].mean():.3f}"]
    return ", ".join([*parts, *filter(None, [describe_converged_runs(module)])])


def describe_converged_runs(module: LightningModule) -> str:
    """Describe how many runs have converged, such as `converged 3/8`; empty if the ablation has no threshold."""
    trained, converged = as_population_module(module), 0
    if trained.convergence.threshold is None:
        return ""
    if trained.history:
        converged = int(compute_run_outcomes(pd.DataFrame(trained.history), trained.convergence)["converged"].sum())
    return f"converged {converged}/{len(trained.ablation.training.seeds)}"
