"""What stacking members costs on this machine, and what Lightning adds to the bare step.

    python benchmarks/population.py [--members 4] [--steps 10] [--rounds 7]

Three programs over the model, batch and optimizer settings of `params.yaml`, taken in turn so that a drifting
machine hits all alike; medians over the rounds:

- loop: plain modules one after the other, each with torch's own Muon and AdamW and its own clipping;
- stacked: the population's bare step;
- lightning: the same step in the `fit` that the train stage calls.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import typer
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from pipeline import dataset
from pipeline.dataset import Dataset
from pipeline.params import Cell, read
from pipeline.training.examples import Examples, ExamplesModule
from pipeline.training.fit import fit
from pipeline.training.module import member_losses
from pipeline.training.optimizers import ADAM_EPSILON, build, clip_gradients, gradient_norms
from pipeline.training.population import Population, initialised


class Stopwatch(Callback):
    """Seconds from the start of one step to the start of the next."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        self.starts.append(time.perf_counter())

    def seconds(self) -> list[float]:
        return [after - before for before, after in zip(self.starts[1:], self.starts[2:], strict=False)]


def timed(steps: Iterator[None], count: int) -> list[float]:
    """Seconds of each of `count` steps, after one that is not counted."""
    next(steps)
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        next(steps)
        seconds.append(time.perf_counter() - start)
    return seconds


def loop_steps(cell: Cell, data: ExamplesModule, vocabulary: int) -> Iterator[None]:
    """Each member by itself, as one would write it without a population."""
    shape = {"vocabulary": vocabulary, "length": data.training.tokens.shape[1]}
    members = [initialised(cell.model, seed=seed, **shape) for seed in cell.training.seeds]
    optimizers = [own_optimizers(member, cell) for member in members]
    for batch in data.order:
        for member, own, rows in zip(members, optimizers, batch, strict=True):
            step_alone(member, own, data.training.at(rows), cell.training.gradient_clip)
        yield


def own_optimizers(member: nn.Module, cell: Cell) -> list[torch.optim.Optimizer]:
    hidden, rest = [], []
    for name, parameter in member.named_parameters():
        is_hidden = cell.training.optimizer == "muon" and parameter.ndim == 2 and name.startswith("blocks.")
        (hidden if is_hidden else rest).append(parameter)
    adamw_rate = cell.training.adamw_learning_rate if hidden else cell.training.learning_rate
    adamw = torch.optim.AdamW(
        rest,
        lr=adamw_rate,
        betas=cell.training.betas,
        eps=ADAM_EPSILON,
        weight_decay=cell.training.weight_decay,
    )
    if not hidden:
        return [adamw]
    muon = torch.optim.Muon(hidden, lr=cell.training.learning_rate, weight_decay=cell.training.weight_decay)
    return [muon, adamw]


def step_alone(member: nn.Module, optimizers: list[torch.optim.Optimizer], batch: Examples, clip: float | None) -> None:
    member.zero_grad()
    logits: Tensor = member(batch.tokens, batch.positions)
    F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten()).backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(member.parameters(), clip)
    for optimizer in optimizers:
        optimizer.step()


def stacked_steps(cell: Cell, data: ExamplesModule, vocabulary: int) -> Iterator[None]:
    """The population's step, without Lightning."""
    population = Population(
        cell.model, cell.training.seeds, vocabulary=vocabulary, length=data.training.tokens.shape[1]
    )
    optimizer = build(population, cell.training)
    for batch in data.order:
        optimizer.zero_grad()
        tokens, positions, targets = data.training.at(batch)
        member_losses(population(tokens, positions), targets).sum().backward()
        norms = gradient_norms(population)
        if cell.training.gradient_clip is not None:
            clip_gradients(population, norms, cell.training.gradient_clip)
        optimizer.step()
        yield


def lightning_seconds(cell: Cell, data: Dataset, count: int) -> list[float]:
    stopwatch = Stopwatch()
    short = {"steps": count + 2, "evaluate_every": count + 2, "warmup_steps": 0}
    fit(
        cell.model_copy(update={"training": cell.training.model_copy(update=short)}),
        data,
        callbacks=[stopwatch],
    )
    return stopwatch.seconds()


def main(members: int = 4, steps: int = 10, rounds: int = 7) -> None:
    params = read()
    cell = params.cell(next(iter(params.ablations)))
    seeds = {"seeds": list(range(members)), "accelerator": "cpu"}
    cell = cell.model_copy(update={"training": cell.training.model_copy(update=seeds)})
    with tempfile.TemporaryDirectory() as folder:
        dataset.write(Path(folder), params.task)
        rows = dataset.read(Path(folder), params.task)
    data = ExamplesModule(rows, cell.training)
    vocabulary = len(rows.vocabulary)
    seconds: dict[str, list[float]] = {"loop": [], "stacked": [], "lightning": []}
    loop, stacked = loop_steps(cell, data, vocabulary), stacked_steps(cell, data, vocabulary)
    for _ in range(rounds):
        seconds["loop"].append(statistics.median(timed(loop, steps)))
        seconds["stacked"].append(statistics.median(timed(stacked, steps)))
        seconds["lightning"].append(statistics.median(islice(lightning_seconds(cell, rows, steps), steps)))
    model = cell.model
    print(
        f"{members} members, {model.layers} layers x width {model.width}, batch {cell.training.batch_size}, "
        f"{torch.get_num_threads()} threads; median of {rounds} rounds of {steps} steps"
    )
    for name, values in seconds.items():
        print(f"{name:10} {1000 * statistics.median(values) / members:7.2f} ms per member and step")
    for name, reference, allowed in (("stacked", "loop", 1.10), ("lightning", "stacked", 1.05)):
        ratios = [a / b for a, b in zip(seconds[name], seconds[reference], strict=True)]
        print(f"{name} / {reference}: {statistics.median(ratios):.3f} (at most {allowed:.2f} wanted)")


if __name__ == "__main__":
    typer.run(main)
