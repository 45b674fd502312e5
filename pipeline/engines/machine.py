"""What this machine has to share out: GPUs and processor cores."""

import os


def devices() -> list[str]:
    """The visible GPUs, as CUDA names them; empty on a machine without."""
    import torch

    count = torch.cuda.device_count()
    return os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")[:count] if count else []


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def room() -> int:
    """How many commands it takes at once: one per visible GPU, or per core without any."""
    return len(devices()) or cores()


def places(count: int) -> list[dict[str, str]]:
    """What the environment of each of `count` commands side by side must say, so that none takes another's device or
    threads."""
    gpus = devices()
    threads = str(max(1, cores() // count))
    each = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    return [each | ({"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {}) for index in range(count)]
