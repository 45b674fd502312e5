"""How fast it is, as lines of one table. `make bench` runs them all (about twenty minutes on two cores).

    python benchmarks/bench.py step|pipeline|start|idle|memory
    python benchmarks/bench.py gpu

Medians of interleaved repeats, on one thread, on the CPU but for `gpu`; times are of the machine at hand, so read the
ratios.
"""

import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import typer
from plain import Alone
from ruamel.yaml import YAML

from pipeline import dataset
from pipeline.measurement.cost import cost
from pipeline.measurement.registry import MeasurementInput, random_rows
from pipeline.params import Ablation, read
from pipeline.tasks.catalogue import problems
from pipeline.training.data import PopulationData
from pipeline.training.module import member_losses
from pipeline.training.optimizers import build_optimizer, clip_gradients, gradient_norms
from pipeline.training.population import Population, initial_model
from pipeline.training.processor import keep_freed_memory

PROJECT = Path(__file__).parent.parent
MEMBERS = (1, 2, 4, 8, 16, 32, 64)
COMMANDS = ("generate", "train", "evaluate", "analyze", "report", "search", "repro", "track", "check", "preset")

app = typer.Typer(add_completion=False)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def medians(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each, taken in turn `rounds` times, so that a drifting machine hits all alike; one round more, which
    is not counted, comes first."""
    taken = [{name: seconds(run) for name, run in runs.items()} for _ in range(rounds + 1)][1:]
    return {name: statistics.median(one[name] for one in taken) for name in runs}


def line(what: str, measured: str, command: str) -> None:
    print(f"| {what} | {measured} | `python benchmarks/bench.py {command}` |", flush=True)


def chosen(members: int, experiment: Path = PROJECT / "params.yaml", **settings: Any) -> Ablation:
    """The first ablation of an experiment, with so many members and other `settings` of its training."""
    ablation = next(iter(read(experiment).all_ablations()))
    settings = {"accelerator": "cpu"} | settings | {"seeds": list(range(members))}
    return ablation.model_copy(update={"training": ablation.training.model_copy(update=settings)})


def dataset_of(ablation: Ablation) -> dataset.Dataset:
    with tempfile.TemporaryDirectory() as folder:
        dataset.write(Path(folder), problems(ablation.task))
        return dataset.read(Path(folder), ablation.task)


@app.command()
def step(rounds: int = 15) -> None:
    """A training step, per member, beside a plain loop and the rate of bare matrix products."""
    torch.set_num_threads(1)
    keep_freed_memory()
    data = dataset_of(chosen(1))
    runs = {f"stacked-{members}": stacked(chosen(members), data) for members in MEMBERS}
    runs["plain"] = plain(chosen(1), data)
    a, b = torch.randn(1408, 192), torch.randn(192, 192)
    runs["product"] = lambda: [a @ b for _ in range(100)]
    took = medians(runs, rounds)
    rate = 100 * 2 * 1408 * 192 * 192 / took["product"]
    model = initial_model(chosen(1).model, seed=0, **data.inputs)
    subject = MeasurementInput(
        model, chosen(1), data.examples["validation"], random_rows(1, data.length, len(data.vocabulary))
    )
    work = float(cost(subject)["flops_per_step"].item())
    line("plain loop, a member's step", f"{1e3 * took['plain']:.1f} ms", "step")
    for members in MEMBERS:
        each = took[f"stacked-{members}"] / members
        line(
            f"step of {members} members, each",
            f"{1e3 * each:.1f} ms, {took['plain'] / each:.2f} times as fast as the loop; "
            f"{100 * work / each / rate:.0f} % of {rate / 1e9:.0f} GFLOP/s",
            "step",
        )


def stacked(ablation: Ablation, data: dataset.Dataset, device: str = "cpu") -> Callable[[], object]:
    """The population's step, without Lightning."""
    population = Population(
        ablation.model, ablation.training.seeds, compiled=ablation.training.compiled, **data.inputs
    ).to(device)
    module = PopulationData(data, ablation.training)
    optimizer, order, rows = (
        build_optimizer(population, ablation.training),
        iter(module.order),
        module.training.to(device),
    )

    def one() -> None:
        optimizer.zero_grad()
        tokens, positions, targets = rows.at(next(order).to(device))
        with mixed(ablation, device):
            losses = member_losses(population(tokens, positions), targets)
        losses.sum().backward()
        clip_gradients(population, gradient_norms(population), ablation.training.gradient_clip or 1.0)
        optimizer.step()

    return one


def plain(ablation: Ablation, data: dataset.Dataset, device: str = "cpu") -> Callable[[], object]:
    """The plain loop's step."""
    alone, module = (
        Alone.of(ablation, len(data.vocabulary), data.length, device),
        PopulationData(data, ablation.training),
    )
    order, rows = iter(module.order), module.training.to(device)
    return lambda: alone.step(
        rows.at(next(order)[0].to(device)), ablation.training.gradient_clip or 1.0, lambda: mixed(ablation, device)
    )


def mixed(ablation: Ablation, device: str) -> torch.autocast:
    """The precision of an ablation, as Lightning sees to it."""
    return torch.autocast(device, torch.bfloat16, enabled=ablation.training.precision == "bf16-mixed")


@app.command()
def gpu(members: str = "8,64,512", published: str = "1,8,16", rounds: int = 7, steps: int = 10) -> None:
    """A training step on a GPU, of the default experiment and of the preset `published`; a member's share of it."""
    card = torch.cuda.get_device_name()
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    rate = 2 * 8192**3 / each_on_gpu(lambda: a @ a, steps, rounds)
    line(f"{card}: bfloat16 product of 8192 x 8192", f"{rate / 1e12:.0f} TFLOP/s", "gpu")
    for name, experiment, counts in (
        ("default", PROJECT / "params.yaml", members),
        ("published", PROJECT / "pipeline" / "presets" / "published.yaml", published),
    ):
        data = dataset_of(chosen(1, experiment))
        for precision in ("32-true", "bf16-mixed"):
            loop = plain(chosen(1, experiment, precision=precision), data, "cuda")
            took = each_on_gpu(loop, steps, rounds)
            line(f"{name}, {precision}: a plain loop", f"{1e3 * took:.2f} ms", "gpu")
            for compiled, count in itertools.product((False, True), map(int, counts.split(","))):
                ablation = chosen(count, experiment, precision=precision, compiled=compiled)
                torch.compiler.reset()
                torch.cuda.reset_peak_memory_stats()
                run = stacked(ablation, data, "cuda")
                first = seconds(on_gpu(run, 3))
                each = each_on_gpu(run, steps, rounds)
                line(
                    f"{name}, {precision}, {count} members{', compiled' * compiled}",
                    f"{1e3 * each:.1f} ms, {1e3 * each / count:.3f} a member, {took * count / each:.1f} times as fast "
                    f"as the loop; {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB; the first {first:.0f} s",
                    "gpu",
                )


def each_on_gpu(run: Callable[[], object], steps: int, rounds: int) -> float:
    """Median seconds of one of so many in a row."""
    return medians({"run": on_gpu(run, steps)}, rounds)["run"] / steps


def on_gpu(run: Callable[[], object], steps: int) -> Callable[[], object]:
    """So many in a row, and wait for them."""

    def several() -> None:
        for _ in range(steps):
            run()
        torch.cuda.synchronize()

    return several


def project(folder: Path, ablations: int) -> Path:
    """A copy of the project with its first ablations, and nothing made yet."""
    made = folder / "project"
    left_out = shutil.ignore_patterns(
        ".git", ".venv*", "cache", "tmp", "data", "models", "*.db*", ".repro", "__pycache__"
    )
    shutil.copytree(PROJECT, made, ignore=left_out)
    (made / "dvc.lock").unlink(missing_ok=True)
    subprocess.run(["git", "init", "--quiet"], cwd=made, check=True)
    content = YAML(typ="safe").load(made / "params.yaml")
    content |= {"ablations": dict(list(content["ablations"].items())[:ablations]), "comparisons": []}
    YAML().dump(content, made / "params.yaml")
    return made


def call(folder: Path, *arguments: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env=environment, check=True, capture_output=True)


@app.command()
def pipeline(jobs: str = "1,2", ablations: int = 2, rounds: int = 1) -> None:
    """From nothing to the report, with the first ablations of the default experiment."""
    members = ablations * len(read(PROJECT / "params.yaml").training.seeds)
    taken: dict[str, list[float]] = {count: [] for count in jobs.split(",")}
    for _ in range(rounds):
        for count in taken:
            with tempfile.TemporaryDirectory() as folder:
                made = project(Path(folder), ablations)
                taken[count].append(
                    seconds(lambda made=made, count=count: call(made, "pipeline", "repro", "--jobs", count))
                )
    for count, took in taken.items():
        middle = statistics.median(took)
        line(
            f"{ablations} ablations, {members} members, from nothing to the report, {count} at once",
            f"{middle:.0f} s: {60 * members / middle:.1f} member-runs a minute",
            f"pipeline --ablations {ablations}",
        )


@app.command()
def start(rounds: int = 5) -> None:
    """Until a command has read its arguments, and until what it needs is imported."""
    runs: dict[str, Callable[[], object]] = {}
    for name in COMMANDS:
        runs[name] = lambda name=name: call(PROJECT, "pipeline", name, "--help")
    took = medians(runs, rounds)
    line("start of a command (slowest)", f"{max(took.values()):.2f} s ({max(took, key=took.__getitem__)})", "start")
    for name, module in imports():
        script = f"from pipeline import environment; environment.prepare_process(); import {module}"
        took = medians(
            {name: lambda script=script: subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=True)},
            rounds,
        )
        line(f"`{name}` until all is imported, and its end", f"{took[name]:.1f} s", "start")


def imports() -> Iterator[tuple[str, str]]:
    for name in COMMANDS[:6]:
        yield name, f"pipeline.stages.{name}"
    yield "repro", "pipeline.repro.driver"


@app.command()
def idle(rounds: int = 5) -> None:
    """When nothing is stale. (The smoke preset is made first.)"""
    with tempfile.TemporaryDirectory() as folder:
        made = project(Path(folder), 1)
        call(made, "pipeline", "preset", "smoke", "--force")
        call(made, "pipeline", "repro")
        runs = {"repro": ("pipeline", "repro"), "dvc repro report": ("dvc", "repro", "report")}
        took = medians({name: lambda said=said: call(made, *said) for name, said in runs.items()}, rounds)
    for name, each in took.items():
        line(f"`{name}`, nothing stale", f"{each:.1f} s", "idle")


@app.command()
def memory() -> None:
    """Most memory of a process that trains an ablation."""
    script = (
        "import pathlib, tempfile\n"
        "from bench import chosen, dataset, problems\n"
        "from pipeline.training.fit import fit\n"
        "ablation, folder = chosen({members}), pathlib.Path(tempfile.mkdtemp())\n"
        "ablation = ablation.model_copy(update={{'training': ablation.training.model_copy(update={{'steps': 50}})}})\n"
        "dataset.write(folder, problems(ablation.task))\n"
        "fit(ablation, dataset.read(folder, ablation.task))\n"
        # not `ru_maxrss`, which begins with what the process that started it had
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    for members in (1, 8, 64):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script.format(members=members)],
            cwd=PROJECT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{PROJECT / 'benchmarks'}"},
            capture_output=True,
            text=True,
            check=True,
        )
        line(f"memory of a training of {members} members", f"{int(done.stdout.split()[-1]) / 2**20:.1f} GiB", "memory")


@app.command(name="all")
def everything() -> None:
    """All lines."""
    print("| what | measured | command |\n| --- | --- | --- |")
    for part in (step, memory, start, idle, pipeline):
        part()


if __name__ == "__main__":
    app()
