"""Engine: tasks on a Ray cluster, the one at `RAY_ADDRESS` or one on this machine."""

import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.engines.command import Command, OnEnd
from pipeline.errors import RunError, UserError

RETRIES = 3
"""Number of further attempts after a command's node was lost."""
CANCEL_SECONDS = 60
"""Longest wait for interrupted commands."""


def run(
    commands: Sequence[Command], *, workers: int | None, gpus: float | None, on_end: OnEnd | None = None
) -> list[int]:
    """See `Engine.run`. Without a number of workers, the cluster decides how many run at once.

    Raises:
        UserError: Ray is not installed, or its cluster does not answer.
        RunError: a command's node was lost too often.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray: Ray is not installed (pip install 'breaking-symmetry[cluster]')") from None
    try:
        _check_address(os.environ.get("RAY_ADDRESS", ""))
        ray.init(log_to_driver=True, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"--engine ray: no cluster answers ({str(error).splitlines()[0]})") from None
    try:
        return _run_tasks(ray, commands, workers or len(commands), gpus, on_end)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError) as error:
        raise RunError(f"--engine ray: a command was lost {RETRIES + 1} times ({str(error).splitlines()[0]})") from None
    finally:
        ray.shutdown()


def _run_tasks(
    ray: Any, commands: Sequence[Command], workers: int, gpus: float | None, on_end: OnEnd | None
) -> list[int]:
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    share = (1.0 if gpus is None else gpus) if has_gpus else 0.0
    task = ray.remote(num_cpus=1, num_gpus=share, max_retries=RETRIES)(Command.run)
    waiting = list(enumerate(commands))
    running: dict[Any, int] = {}
    codes: dict[int, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                index, command = waiting.pop(0)
                running[task.remote(command, Path.cwd(), {})] = index
            for result in ray.wait(list(running))[0]:
                index = running.pop(result)
                codes[index] = ray.get(result)
                if on_end:
                    on_end(index, codes[index])
    except BaseException:
        for result in running:
            ray.cancel(result)
        ray.wait(list(running), num_returns=len(running), timeout=CANCEL_SECONDS)
        raise
    return [codes[index] for index in range(len(commands))]


def _check_address(address: str) -> None:
    """Connect to the address, if it has a port, and raise the error of the network. Ray would try for 15 minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
