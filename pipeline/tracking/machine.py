"""Tags of a run in MLflow that describe the process that trained it: hardware, versions and commit."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import psutil

PROCESS_TAG = "machine.process"
"""Tag of a run in MLflow with the id and start time of the process that trains it."""
CLOCK_TOLERANCE_SECONDS = 3.0
"""Largest difference between two readings of the start time of one process; readings differ when the clock is set."""


def machine_tags() -> dict[str, str]:
    """Return tags for a run in MLflow: user, commit, hardware, versions, and the id of this process."""
    import torch
    from mlflow.utils.git_utils import get_git_commit

    process = psutil.Process()
    return {
        "mlflow.user": process.username(),
        "mlflow.source.git.commit": get_git_commit(os.getcwd()) or "unknown",
        "machine.host": platform.node(),
        PROCESS_TAG: f"{process.pid} {process.create_time():.0f}",
        "machine.system": platform.platform(),
        "machine.python": platform.python_version(),
        "machine.processor": _processor_name(),
        "machine.gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "machine.threads": str(torch.get_num_threads()),
        "machine.torch": torch.__version__,
        "machine.lightning": version("pytorch-lightning"),
    }


def has_exited(tags: Mapping[str, str]) -> bool:
    """Return True if the run with these tags was trained by a process of this machine that has exited.

    A process is identified by its id and start time, because ids are reused.
    """
    number, _, start = tags.get(PROCESS_TAG, "").partition(" ")
    if tags.get("machine.host") != platform.node() or not start:
        return False
    try:
        return abs(psutil.Process(int(number)).create_time() - float(start)) > CLOCK_TOLERANCE_SECONDS
    except psutil.NoSuchProcess:
        return True


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
