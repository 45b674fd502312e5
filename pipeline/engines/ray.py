"""Engine that runs commands as tasks of the Ray cluster at `RAY_ADDRESS`, or else of a Ray cluster on this machine."""

import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.engines.command import CANCEL_TIMEOUT_SECONDS, MAX_RETRIES, Command, CommandEndCallback
from pipeline.errors import RunError, UserError


def run(
    commands: Sequence[Command],
    *,
    max_workers: int | None,
    gpus_per_command: float | None,
    on_command_end: CommandEndCallback | None = None,
) -> list[int]:
    """Run the commands on a Ray cluster, as `Engine.run` describes; without `max_workers`, Ray chooses a number.

    Raises:
        UserError: Ray is not installed, or its cluster does not answer.
        RunError: a command's node was lost too often.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray: Ray is not installed (pip install 'breaking-symmetry[cluster]')") from None
    try:
        _check_reachable(os.environ.get("RAY_ADDRESS", ""))
        ray.init(log_to_driver=True, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"--engine ray: no cluster answers ({str(error).splitlines()[0]})") from None
    try:
        return _run_tasks(ray, commands, max_workers or len(commands), gpus_per_command, on_command_end)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError) as error:
        raise RunError(
            f"--engine ray: a command was lost {MAX_RETRIES + 1} times ({str(error).splitlines()[0]})"
        ) from None
    finally:
        ray.shutdown()


def _run_tasks(
    ray: Any,
    commands: Sequence[Command],
    max_workers: int,
    gpus_per_command: float | None,
    on_command_end: CommandEndCallback | None,
) -> list[int]:
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    gpus_per_task = (1.0 if gpus_per_command is None else gpus_per_command) if has_gpus else 0.0
    task = ray.remote(num_cpus=1, num_gpus=gpus_per_task, max_retries=MAX_RETRIES)(Command.run)
    waiting = list(enumerate(commands))
    running: dict[Any, int] = {}
    exit_codes: dict[int, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < max_workers:
                index, command = waiting.pop(0)
                running[task.remote(command, Path.cwd(), {})] = index
            for result in ray.wait(list(running))[0]:
                index = running.pop(result)
                exit_codes[index] = ray.get(result)
                if on_command_end:
                    on_command_end(index, exit_codes[index])
    except BaseException:
        for result in running:
            ray.cancel(result)
        ray.wait(list(running), num_returns=len(running), timeout=CANCEL_TIMEOUT_SECONDS)
        raise
    return [exit_codes[index] for index in range(len(commands))]


def _check_reachable(address: str) -> None:
    """Raise OSError if `address` has a port and does not answer: Ray would try to connect for 15 minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
