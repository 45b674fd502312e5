"""What this machine has to share out: GPUs and processor cores."""

import os

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What the libraries that compute read when they are imported."""


def visible_gpus() -> list[str]:
    """The visible GPUs, as CUDA names them; empty on a machine without."""
    import torch

    count = torch.cuda.device_count()
    return os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")[:count] if count else []


def usable_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def capacity(gpus: float | None = None) -> int:
    """How many commands it takes at once, if each takes that share of a GPU (None: a whole one); one per core where
    there are none, or none is taken."""
    share = 1.0 if gpus is None else gpus
    return (len(visible_gpus()) * max(1, int(1 / share)) if share else 0) or usable_cores()


def thread_variables(count: int) -> dict[str, str]:
    """What the environment of any of `count` commands side by side says of its threads."""
    return dict.fromkeys(THREADS, str(max(1, usable_cores() // count)))


def worker_environments(count: int) -> list[dict[str, str]]:
    """What the environment of each of `count` commands side by side must say, so that none takes another's device or
    threads."""
    gpus = visible_gpus()
    return [
        thread_variables(count) | ({"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {})
        for index in range(count)
    ]
