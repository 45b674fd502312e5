"""Engine that runs commands as tasks of the Ray cluster at `RAY_ADDRESS`, or else of a Ray cluster on this machine."""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.engines.command import CANCEL_TIMEOUT_SECONDS, MAX_RETRIES, Command, Limits
from pipeline.errors import RunError, UserError


def run(commands: Sequence[Command], limits: Limits, on_command_end: Callable[[int, int], None]) -> None:
    """Run the commands on a Ray cluster, as `Engine.run` describes; without `max_workers`, Ray chooses a number.

    Raises:
        UserError: Ray is not installed, or its cluster does not answer.
        RunError: a command's node was lost too often.
    """
    try:
        import ray
    except ImportError:
        raise UserError(
            "--engine ray: Ray is not installed (in the project's folder: pip install -e '.[cluster]')"
        ) from None
    try:
        host, _, port = os.environ.get("RAY_ADDRESS", "").removeprefix("ray://").rpartition(":")
        if port.isdigit():  # Ray would try to connect to a dead address for 15 minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(log_to_driver=True, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"--engine ray: no cluster answers ({str(error).splitlines()[0]})") from None
    try:
        _run_tasks(ray, commands, limits, on_command_end)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"--engine ray: a command was lost {MAX_RETRIES + 1} times ({reason})") from None
    finally:
        ray.shutdown()


def _run_tasks(
    ray: Any, commands: Sequence[Command], limits: Limits, on_command_end: Callable[[int, int], None]
) -> None:
    gpus = limits.gpus_per_command if ray.cluster_resources().get("GPU", 0) else 0.0
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MAX_RETRIES)(Command.run)
    waiting, running = list(enumerate(commands)), dict[Any, int]()
    try:
        while waiting or running:
            while waiting and len(running) < (limits.max_workers or len(commands)):
                index, command = waiting.pop(0)
                running[task.remote(command, Path.cwd(), {})] = index
            for result in ray.wait(list(running))[0]:
                on_command_end(running.pop(result), ray.get(result))
    except BaseException:
        for result in running:
            ray.cancel(result)
        ray.wait(list(running), num_returns=len(running), timeout=CANCEL_TIMEOUT_SECONDS)
        raise
