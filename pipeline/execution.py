"""Run one command many times at once: as local processes, each with its own device and threads, or on a Ray cluster."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.refusal import Refused

PARENT = "PIPELINE_PARENT"
"""Set for a process that must not outlive the one that started it, which holds the other end of its standard input."""


def devices() -> list[str]:
    """The visible GPUs, as CUDA names them; empty on a machine without."""
    import torch

    count = torch.cuda.device_count()
    return os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")[:count] if count else []


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environments(workers: int | None) -> list[dict[str, str]]:
    """What each worker's environment must say, so that none takes another's device or threads.

    `workers` None: one per visible GPU, or per core on a machine without.
    """
    gpus = devices()
    count = workers or len(gpus) or cores()
    threads = str(max(1, cores() // count))
    each = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    return [each | ({"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {}) for index in range(count)]


def run_processes(commands: Sequence[Sequence[str]], environments: Sequence[dict[str, str]]) -> list[int]:
    """Run the commands side by side; their exit codes. Ctrl-C is passed on, waited for, and raised again."""
    processes = [
        subprocess.Popen(
            command,
            env=os.environ | own | {PARENT: str(os.getpid())},
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal comes to this process alone, which passes it on once
        )
        for command, own in zip(commands, environments, strict=True)
    ]
    try:
        return [process.wait() for process in processes]
    except KeyboardInterrupt:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait()
        raise


def end_with_parent() -> None:
    """In a process of `run_processes`: be interrupted when the parent is gone, however it went."""
    if PARENT not in os.environ:
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)  # nothing is ever sent: it returns when the other end is closed
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


def run_on_ray(work: Callable[[int], Any], workers: int, *, gpus: float) -> list[Any]:
    """Call `work(index)` as so many Ray tasks, with so much of a GPU each, on the cluster that `RAY_ADDRESS` names or
    on this machine; a task whose node dies is started again.

    Raises:
        Refused: Ray is not installed, or its cluster does not answer.
    """
    try:
        import ray
    except ImportError:
        raise Refused("--engine ray: Ray is not installed (pip install 'breaking-symmetry[cluster]')") from None
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(log_to_driver=True, logging_level=logging.WARNING)
        except ConnectionError as error:
            raise Refused(f"--engine ray: no cluster answers ({str(error).splitlines()[0]})") from None
    try:
        # Ray takes a function only, no other callable
        task: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=3)(lambda index: work(index))
        return ray.get([task.remote(index) for index in range(workers)])
    finally:
        if started:
            ray.shutdown()
