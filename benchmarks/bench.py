"""Measure speed and memory, one table row per measurement. `make bench` runs everything but `gpu` (twenty minutes).

    python -W ignore benchmarks/bench.py step|memory|start|idle|pipeline
    python -W ignore benchmarks/bench.py gpu

Times are medians of interleaved repeats, on one thread; all but `gpu` use the CPU. They depend on the machine:
compare ratios.
"""

import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import typer
from plain import PlainTraining
from ruamel.yaml import YAML

from pipeline import dataset
from pipeline.environment import keep_freed_memory
from pipeline.measurement.cost import cost
from pipeline.measurement.registry import MeasurementInput
from pipeline.params import Ablation
from pipeline.tasks.registry import read_params
from pipeline.training.data import PopulationData
from pipeline.training.module import mean_member_losses
from pipeline.training.optimizers import build_optimizer, clip_gradients, compute_gradient_norms
from pipeline.training.population import Population, build_initial_model

PROJECT = Path(__file__).parent.parent
RUNS = (1, 2, 4, 8, 16, 32, 64)
STAGES = ("generate", "train", "evaluate", "analyze", "report", "search")
OTHER_COMMANDS = ("repro", "track", "check", "study")
PRODUCT = (1408, 192, 192)
"""Rows, inner size and columns of a matrix product of about the model's size."""
PRODUCTS = 100

app = typer.Typer(add_completion=False)


def seconds(function: Callable[[], object]) -> float:
    """Duration of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def median_seconds(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median duration of each function.

    All functions are called in turn, `rounds` times, so that a machine that slows down affects all alike. A first
    round is not counted.
    """
    durations = [{name: seconds(function) for name, function in functions.items()} for _ in range(rounds + 1)][1:]
    return {name: statistics.median(times[name] for times in durations) for name in functions}


def print_row(subject: str, result: str, command: str) -> None:
    """Print one row of the table."""
    print(f"| {subject} | {result} | `python benchmarks/bench.py {command}` |", flush=True)


def first_ablation(runs: int, experiment: Path = PROJECT / "params.yaml", **settings: Any) -> Ablation:
    """The first ablation of an experiment, with this number of runs and other training `settings`."""
    ablation = next(iter(read_params(experiment).all_ablations()))
    settings = {"accelerator": "cpu"} | settings | {"seeds": list(range(runs))}
    return ablation.model_copy(update={"training": ablation.training.model_copy(update=settings)})


def generate_dataset(ablation: Ablation) -> dataset.Dataset:
    """The dataset of an ablation, without a folder that stays."""
    with tempfile.TemporaryDirectory() as folder:
        dataset.write(Path(folder), ablation.task)
        return dataset.read(Path(folder), ablation.task)


def population_step(ablation: Ablation, data: dataset.Dataset, device: str = "cpu") -> Callable[[], object]:
    """A function that trains all runs of an ablation for one step, without Lightning."""
    training = ablation.training
    population = Population(
        ablation.model, training.seeds, compiled=training.compiled, **data.transformer_arguments
    ).to(device)
    module = PopulationData(data, training)
    optimizer = build_optimizer(population, training)
    order, examples = iter(module.batch_order), module.training_examples.to(torch.device(device))

    def step() -> None:
        optimizer.zero_grad()
        batch = examples[next(order).to(device)]
        with mixed_precision(ablation, device):
            losses = mean_member_losses(population(batch.tokens, batch.positions), batch.targets)
        losses.sum().backward()
        clip_gradients(population, compute_gradient_norms(population), training.gradient_clip or 1.0)
        optimizer.step()

    return step


def plain_step(ablation: Ablation, data: dataset.Dataset, device: str = "cpu") -> Callable[[], object]:
    """A function that trains one run for one step in the plain loop."""
    plain = PlainTraining.create(ablation, len(data.vocabulary), data.input_length, device)
    module = PopulationData(data, ablation.training)
    order, examples = iter(module.batch_order), module.training_examples.to(torch.device(device))
    clip = ablation.training.gradient_clip or 1.0
    return lambda: plain.step(examples[next(order)[0].to(device)], clip, mixed_precision(ablation, device))


def mixed_precision(ablation: Ablation, device: str) -> torch.autocast:
    """A context that computes in the ablation's precision, as Lightning does."""
    return torch.autocast(device, torch.bfloat16, enabled=ablation.training.precision == "bf16-mixed")


@app.command()
def step(rounds: int = 15) -> None:
    """Time a training step per run, and compare it with a plain loop and with bare matrix products."""
    torch.set_num_threads(1)
    keep_freed_memory()
    ablation = first_ablation(1)
    data = generate_dataset(ablation)
    functions = {f"population of {runs}": population_step(first_ablation(runs), data) for runs in RUNS}
    functions["plain"] = plain_step(ablation, data)
    rows, inner, columns = PRODUCT
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)
    functions["products"] = lambda: [a @ b for _ in range(PRODUCTS)]
    times = median_seconds(functions, rounds)
    products_per_second = PRODUCTS * 2 * rows * inner * columns / times["products"]
    model = build_initial_model(ablation.model, seed=0, **data.transformer_arguments)
    subject = MeasurementInput(model, ablation, data.examples["validation"])
    operations = float(cost(subject)["flops_per_step"].item())
    print_row("plain loop, a step of one run", f"{1e3 * times['plain']:.1f} ms", "step")
    for runs in RUNS:
        per_run = times[f"population of {runs}"] / runs
        print_row(
            f"a step per run, {runs} at once",
            f"{1e3 * per_run:.1f} ms, {times['plain'] / per_run:.2f} times as fast as the loop; "
            f"{100 * operations / per_run / products_per_second:.0f} % of {products_per_second / 1e9:.0f} GFLOP/s",
            "step",
        )


@app.command()
def gpu(runs: str = "8,64,512", published: str = "1,8,16", rounds: int = 7, steps: int = 10) -> None:
    """Time a training step on a GPU, of the default experiment and of the preset `published`."""
    card = torch.cuda.get_device_name()
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    rate = 2 * 8192**3 / seconds_on_gpu(lambda: a @ a, steps, rounds)
    print_row(f"{card}: bfloat16 product of 8192 x 8192", f"{rate / 1e12:.0f} TFLOP/s", "gpu")
    for name, experiment, run_counts in (
        ("default", PROJECT / "params.yaml", runs),
        ("published", PROJECT / "pipeline" / "presets" / "published.yaml", published),
    ):
        data = generate_dataset(first_ablation(1, experiment))
        for precision in ("32-true", "bf16-mixed"):
            loop = plain_step(first_ablation(1, experiment, precision=precision), data, "cuda")
            loop_time = seconds_on_gpu(loop, steps, rounds)
            print_row(f"{name}, {precision}: a plain loop", f"{1e3 * loop_time:.2f} ms", "gpu")
            for compiled, count in itertools.product((False, True), map(int, run_counts.split(","))):
                ablation = first_ablation(count, experiment, precision=precision, compiled=compiled)
                torch.compiler.reset()
                torch.cuda.reset_peak_memory_stats()
                function = population_step(ablation, data, "cuda")
                first = seconds(repeat_on_gpu(function, 3))
                step_time = seconds_on_gpu(function, steps, rounds)
                label = "compiled" if compiled else "not compiled"
                print_row(
                    f"{name}, {precision}, {count} runs, {label}",
                    f"{1e3 * step_time:.1f} ms, {1e3 * step_time / count:.3f} per run, "
                    f"{loop_time * count / step_time:.1f} times as fast as the loop; "
                    f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB; the first steps {first:.0f} s",
                    "gpu",
                )


def seconds_on_gpu(function: Callable[[], object], steps: int, rounds: int) -> float:
    """Median duration of one call, timed over `steps` calls in a row."""
    return median_seconds({"steps": repeat_on_gpu(function, steps)}, rounds)["steps"] / steps


def repeat_on_gpu(function: Callable[[], object], steps: int) -> Callable[[], object]:
    """A function that calls `function` `steps` times and waits for the GPU."""

    def repeated() -> None:
        for _ in range(steps):
            function()
        torch.cuda.synchronize()

    return repeated


def copy_project(folder: Path, ablations: int) -> Path:
    """A copy of the project below `folder`, without results, with its first `ablations` alone."""
    copy = folder / "project"
    ignored = shutil.ignore_patterns(
        ".git", ".venv*", "cache", "tmp", "data", "models", "*.db*", ".repro", "__pycache__"
    )
    shutil.copytree(PROJECT, copy, ignore=ignored)
    (copy / "dvc.lock").unlink(missing_ok=True)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    content = YAML(typ="safe").load(copy / "params.yaml")
    content |= {"ablations": dict(list(content["ablations"].items())[:ablations]), "comparisons": []}
    YAML().dump(content, copy / "params.yaml")
    return copy


def run_module(folder: Path, *arguments: str) -> None:
    """Run `python -m` with these arguments in `folder`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env=environment, check=True, capture_output=True)


@app.command()
def pipeline(jobs: str = "1,2", ablations: int = 2, rounds: int = 1) -> None:
    """Time `repro` from nothing to the report, with the first ablations of the default experiment."""
    runs = ablations * len(read_params(PROJECT / "params.yaml").training.seeds)
    durations: dict[str, list[float]] = {count: [] for count in jobs.split(",")}
    for _ in range(rounds):
        for count in durations:
            with tempfile.TemporaryDirectory() as folder:
                copy = copy_project(Path(folder), ablations)
                start = time.perf_counter()
                run_module(copy, "pipeline", "repro", "--jobs", count)
                durations[count].append(time.perf_counter() - start)
    for count, times in durations.items():
        median = statistics.median(times)
        print_row(
            f"{ablations} ablations, {runs} runs, from nothing to the report, {count} at once",
            f"{median:.0f} s: {60 * runs / median:.1f} runs a minute",
            f"pipeline --ablations {ablations}",
        )


@app.command()
def start(rounds: int = 5) -> None:
    """Time `--help` of every command, and the imports of every stage."""
    commands = (*STAGES, *OTHER_COMMANDS)
    helps = {name: partial(run_module, PROJECT, "pipeline", name, "--help") for name in commands}
    times = median_seconds(helps, rounds)
    slowest = max(times, key=times.__getitem__)
    print_row("start of a command (slowest)", f"{times[slowest]:.2f} s ({slowest})", "start")
    modules = {name: f"pipeline.stages.{name}" for name in STAGES} | {"repro": "pipeline.repro.driver"}
    for name, module in modules.items():
        script = f"from pipeline import environment; environment.prepare_process(); import {module}"
        command = [sys.executable, "-c", script]
        times = median_seconds({name: partial(subprocess.run, command, cwd=PROJECT, check=True)}, rounds)
        print_row(f"`{name}` until everything is imported, and its exit", f"{times[name]:.1f} s", "start")


@app.command()
def idle(rounds: int = 5) -> None:
    """Time `repro` and `dvc repro` of the smoke preset when nothing is stale."""
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_project(Path(folder), 1)
        shutil.copy(PROJECT / "pipeline" / "presets" / "smoke.yaml", copy / "params.yaml")
        run_module(copy, "pipeline", "repro")
        commands = {"repro": ("pipeline", "repro"), "dvc repro report": ("dvc", "repro", "report")}
        times = median_seconds(
            {name: partial(run_module, copy, *arguments) for name, arguments in commands.items()},
            rounds,
        )
    for name, duration in times.items():
        print_row(f"`{name}`, nothing stale", f"{duration:.1f} s", "idle")


@app.command()
def memory() -> None:
    """Measure the peak memory of a process that trains an ablation."""
    # VmHWM, because ru_maxrss begins with the memory of the process that started this one
    script = (
        "from bench import first_ablation, generate_dataset\n"
        "from pipeline.training.fit import fit\n"
        "ablation = first_ablation({runs}, steps=50)\n"
        "fit(ablation, generate_dataset(ablation))\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{PROJECT}{os.pathsep}{PROJECT / 'benchmarks'}"}
    for runs in (1, 8, 64):
        command = [sys.executable, "-W", "ignore", "-c", script.format(runs=runs)]
        process = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
        kibibytes = int(process.stdout.split()[-1])
        print_row(f"memory of a training, {runs} at once", f"{kibibytes / 2**20:.1f} GiB", "memory")


@app.command(name="all")
def everything() -> None:
    """Run every measurement but `gpu`."""
    print("| what | measured | command |\n| --- | --- | --- |")
    for measurement in (step, memory, start, idle, pipeline):
        measurement()


if __name__ == "__main__":
    app()
