"""Count the GPUs and processor cores of this machine, and divide them between workers."""

import os

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables from which numerical libraries read, when imported, how many threads to use."""


def visible_gpus() -> list[str]:
    """Return the indices or identifiers that CUDA gives to the GPUs that this process may use."""
    import torch

    count = torch.cuda.device_count()
    return os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")[:count] if count else []


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command_capacity(gpus_per_command: float = 1.0) -> int:
    """Return how many commands, which need `gpus_per_command` GPUs each, can run at once on this machine.

    Without a GPU, or if commands need none, one command runs on each processor core.
    """
    count = len(visible_gpus()) if gpus_per_command else 0
    return count * max(1, int(1 / gpus_per_command)) if count else usable_cores()


def thread_environment(worker_count: int) -> dict[str, str]:
    """Return the environment variables that give each of `worker_count` workers an equal share of the cores."""
    return dict.fromkeys(THREAD_VARIABLES, str(max(1, usable_cores() // worker_count)))


def worker_environments(worker_count: int) -> list[dict[str, str]]:
    """Return the environment variables of each worker: number of threads, and the GPU, which workers take in turn."""
    threads, gpus = thread_environment(worker_count), visible_gpus()
    turns = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] or [{}]
    return [threads | turns[index % len(turns)] for index in range(worker_count)]
