"""Tags of a run in MLflow that describe the process that trained it: hardware, versions and commit."""

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import psutil

PROCESS_TAG = "machine.process"
"""Tag of a run in MLflow with the id and start time of the process that trains it."""


def machine_tags() -> dict[str, str]:
    """Return tags for a run in MLflow: user, commit, hardware, versions, and the id of this process."""
    import torch
    from mlflow.utils.git_utils import get_git_commit

    process, cpu_info = psutil.Process(), Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.+)", cpu_info.read_text("utf-8")) if cpu_info.exists() else []
    return {
        "mlflow.user": os.environ.get("MLFLOW_TRACKING_USERNAME") or process.username(),
        "mlflow.source.git.commit": get_git_commit(os.getcwd()) or "unknown",
        "machine.host": platform.node(),
        PROCESS_TAG: f"{process.pid} {process.create_time():.0f}",
        "machine.system": platform.platform(),
        "machine.python": platform.python_version(),
        "machine.processor": models[0] if models else platform.processor() or platform.machine(),
        "machine.gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "machine.threads": str(torch.get_num_threads()),
        "machine.torch": torch.__version__,
        "machine.lightning": version("pytorch-lightning"),
    }


def has_exited(tags: Mapping[str, str]) -> bool:
    """Return True if the run with these tags was trained by a process of this machine that has exited."""
    number, _, start = tags.get(PROCESS_TAG, "").partition(" ")
    if tags.get("machine.host") != platform.node() or not start:
        return False
    try:  # ids are reused; the start time of a process changes by seconds at most, when the clock is set
        return abs(psutil.Process(int(number)).create_time() - float(start)) > 3
    except psutil.NoSuchProcess:
        return True
