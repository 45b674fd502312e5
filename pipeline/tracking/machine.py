"""Who computes, on what, with which versions: what must not be in tracked files, and is worth knowing of a run."""

import getpass
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import psutil

PROCESS = "machine.process"
CLOCK_SECONDS = 3.0
"""By which a process may seem to have begun earlier or later when the machine's clock is set."""


def machine() -> dict[str, str]:
    """Hardware, versions, this process and the code's commit, as tags."""
    import torch

    return {
        "machine.host": platform.node(),
        PROCESS: f"{os.getpid()} {psutil.Process().create_time():.0f}",
        "machine.system": platform.platform(),
        "machine.python": platform.python_version(),
        "machine.processor": _processor(),
        "machine.gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "machine.threads": str(torch.get_num_threads()),
        "machine.torch": torch.__version__,
        "machine.lightning": version("pytorch-lightning"),
        "commit": _commit(),
    }


def is_gone(tags: Mapping[str, str]) -> bool:
    """Whether what has these tags of `machine` was done by a process of this machine that is no more. A process is who
    has the number and began at the time: numbers are given again."""
    number, _, began = tags.get(PROCESS, "").partition(" ")
    if tags.get("machine.host") != platform.node() or not began:
        return False
    try:
        return abs(psutil.Process(int(number)).create_time() - float(began)) > CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return True


def user() -> str:
    """Who this process belongs to."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _commit() -> str:
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() or "unknown"
