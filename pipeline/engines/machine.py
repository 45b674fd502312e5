"""Resources of this machine: GPUs and processor cores."""

import os

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Numbers of threads, read by numerical libraries when they are imported."""


def visible_gpus() -> list[str]:
    """Return the visible GPUs by CUDA's names; empty on a machine without."""
    import torch

    count = torch.cuda.device_count()
    return os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")[:count] if count else []


def usable_cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def capacity(gpus: float | None = None) -> int:
    """Return how many commands the machine has room for if each takes `gpus` GPUs (None: 1): one per core if it has no
    GPU, or if `gpus` is 0."""
    gpus_each = 1.0 if gpus is None else gpus
    count = len(visible_gpus()) if gpus_each else 0
    return count * max(1, int(1 / gpus_each)) if count else usable_cores()


def thread_variables(count: int) -> dict[str, str]:
    """Return the environment variables that share the cores equally between `count` commands."""
    return dict.fromkeys(THREADS, str(max(1, usable_cores() // count)))


def worker_environments(count: int) -> list[dict[str, str]]:
    """Return the environment variables of each of `count` workers: threads, and a GPU (in turn) where there are any."""
    gpus = visible_gpus()
    return [
        thread_variables(count) | ({"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {})
        for index in range(count)
    ]
