"""What a waiting person sees: the step, the loss, the members converged and the time left."""

import sys
import time
from typing import Any

import pandas as pd
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.training.convergence import run_outcomes
from pipeline.training.module import PopulationModule

REFRESH_SECONDS = 0.5


class ShowProgress(Callback):
    """A bar on a terminal, a plain line per evaluation elsewhere; both on stderr."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self.bar = (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
                TimeRemainingColumn(),
                console=console,
            )
            if console.is_terminal
            else None
        )
        self.shown_at = 0.0

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.started = time.monotonic()
        if self.bar:
            self.bar.start()
            self.task = self.bar.add_task(name(module), total=trainer.max_steps, state="")

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        now = time.monotonic()
        if self.bar and now - self.shown_at > REFRESH_SECONDS:
            self.shown_at = now
            self.bar.update(self.task, completed=trainer.global_step, state=state(module))

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.bar:
            self.bar.update(self.task, completed=trainer.global_step, state=state(module))
            return
        step, steps = trainer.global_step, trainer.max_steps
        left = (time.monotonic() - self.started) * (steps - step) / max(1, step)
        print(
            f"{name(module)}: step {step}/{steps}, {state(module)}, at most {left:.0f} s left",
            file=sys.stderr,
        )

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.bar:
            self.bar.stop()


def name(module: LightningModule) -> str:
    """The ablation's name."""
    assert isinstance(module, PopulationModule)
    return module.ablation.name


def state(module: LightningModule) -> str:
    """Loss, score and members converged, as of the last evaluation."""
    assert isinstance(module, PopulationModule)
    rule = module.convergence
    if not module.history:
        return "loss -"
    last = {row["seed"]: row for row in module.history}.values()
    loss, score = (sum(row[name] for row in last) / len(last) for name in ("validation_loss", rule.column))
    said = (f"loss {loss:.3f}", f"{rule.score.words} {score:.3f}", converged(module))
    return ", ".join(filter(None, said))


def converged(module: LightningModule) -> str:
    """How many members have converged, and of how many; nothing where nobody can."""
    assert isinstance(module, PopulationModule)
    if module.convergence.threshold is None:
        return ""
    ends = run_outcomes(pd.DataFrame(module.history), module.convergence) if module.history else None
    reached = 0 if ends is None else int(ends["converged"].sum())
    return f"converged {reached}/{len(module.ablation.training.seeds)}"
