"""Tags of a run about the process that trained it: hardware, versions and commit, which no tracked file may contain."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import psutil

PROCESS = "machine.process"
CLOCK_SECONDS = 3.0
"""How far the start of a process may seem to move when the machine's clock is set."""


def machine_tags() -> dict[str, str]:
    """User, commit, hardware, versions and this process, as tags."""
    import torch
    from mlflow.utils.git_utils import get_git_commit

    process = psutil.Process()
    return {
        "mlflow.user": process.username(),
        "mlflow.source.git.commit": get_git_commit(os.getcwd()) or "unknown",
        "machine.host": platform.node(),
        PROCESS: f"{process.pid} {process.create_time():.0f}",
        "machine.system": platform.platform(),
        "machine.python": platform.python_version(),
        "machine.processor": _processor(),
        "machine.gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "machine.threads": str(torch.get_num_threads()),
        "machine.torch": torch.__version__,
        "machine.lightning": version("pytorch-lightning"),
    }


def is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the process with these tags ran on this machine and no longer exists. A process is identified by its
    number and its start, because numbers are reused."""
    number, _, start = tags.get(PROCESS, "").partition(" ")
    if tags.get("machine.host") != platform.node() or not start:
        return False
    try:
        return abs(psutil.Process(int(number)).create_time() - float(start)) > CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return True


def _processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
