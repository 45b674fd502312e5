"""Callback that displays the progress of a training on stderr."""

import sys
import time
from typing import Any

import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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

    def on_fit_start(self, trainer: Trainer, module: Any) -> None:
        self.start_time = time.monotonic()
        self.progress_bar.start()
        self.bar_task = self.progress_bar.add_task(module.ablation.name, total=trainer.max_steps, state="")

    def on_train_batch_end(self, trainer: Trainer, module: Any, *args: Any) -> None:
        if trainer.global_step % STEPS_PER_BAR_UPDATE == 0:
            self.progress_bar.update(self.bar_task, completed=trainer.global_step)

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        step, steps, rule = trainer.global_step, trainer.max_steps, module.convergence
        means = pd.DataFrame(module.history).drop_duplicates("seed", keep="last").mean()
        parts = [f"loss {means['validation_loss']:.3f}", f"{rule.score.label} {means[rule.score_column]:.3f}"]
        state = ", ".join(filter(None, [*parts, describe_converged_runs(module)]))
        self.progress_bar.update(self.bar_task, completed=step, state=state)
        if self.progress_bar.disable:
            left = (time.monotonic() - self.start_time) * (steps - step) / max(1, step)
            print(f"{module.ablation.name}: step {step}/{steps}, {state}, at most {left:.0f} s left", file=sys.stderr)

    def on_fit_end(self, trainer: Trainer, module: Any) -> None:
        self.progress_bar.stop()

    def on_exception(self, trainer: Trainer, module: Any, exception: BaseException) -> None:
        self.progress_bar.stop()


def describe_converged_runs(module: PopulationModule) -> str:
    """Describe how many runs have converged, such as `converged 3/8`; empty if the ablation has no threshold."""
    rule, scores = module.convergence, module.scores
    if rule.threshold is None:
        return ""
    converged = int(rule.has_converged(torch.stack(scores).numpy())[-1].sum()) if scores else 0
    return f"converged {converged}/{len(module.ablation.training.seeds)}"
