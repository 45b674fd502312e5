"""Engine: tasks on a Ray cluster, the one that `RAY_ADDRESS` names or one on this machine."""

import itertools
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.engines.command import Command, OnEnd, ignore_end
from pipeline.errors import RunError, UserError

RETRIES = 3
"""How often a command is run again whose node was lost."""
PATIENCE = 60
"""Seconds that an interrupted command has to end."""


def run(
    commands: Sequence[Command], *, workers: int | None, gpus: float | None, on_end: OnEnd = ignore_end
) -> list[int]:
    """As `Engine.run`; without a number of workers, how many run at once is the cluster's to say.

    Raises:
        UserError: Ray is not installed, or its cluster does not answer.
        RunError: a command's node was lost time after time.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray: Ray is not installed (pip install 'breaking-symmetry[cluster]')") from None
    started = not ray.is_initialized()
    if started:
        try:
            _knock(os.environ.get("RAY_ADDRESS", ""))
            ray.init(log_to_driver=True, logging_level=logging.WARNING)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"--engine ray: no cluster answers ({str(error).splitlines()[0]})") from None
    try:
        # Ray takes a function only, no other callable
        task: Any = ray.remote(num_cpus=1, num_gpus=_share(ray, gpus), max_retries=RETRIES)(lambda *of: _run(*of))
        waiting = enumerate(commands)
        running: dict[Any, int] = {}
        codes: dict[int, int] = {}
        try:
            while True:
                for index, command in itertools.islice(waiting, (workers or len(commands)) - len(running)):
                    running[task.remote(command, Path.cwd())] = index
                if not running:
                    return [codes[index] for index in range(len(commands))]
                for result in ray.wait(list(running))[0]:
                    index = running.pop(result)
                    codes[index] = ray.get(result)
                    on_end(index, codes[index])
        except BaseException:
            for result in running:
                ray.cancel(result)
            ray.wait(list(running), num_returns=len(running), timeout=PATIENCE)
            raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError) as error:
        raise RunError(f"--engine ray: a command was lost {RETRIES + 1} times ({str(error).splitlines()[0]})") from None
    finally:
        if started:
            ray.shutdown()


def _share(ray: Any, gpus: float | None) -> float:
    """How many GPUs each command takes of a cluster that may have none."""
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    return (1.0 if gpus is None else gpus) if has_gpus else 0.0


def _knock(address: str) -> None:
    """Raise what the network answers, where an address is given: Ray itself would try for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _run(command: Command, folder: Path) -> int:
    """The task. Its environment already says which GPUs and how many threads it has."""
    with command.start({}, folder) as process:
        while True:
            try:
                return process.wait(timeout=0.2)  # Ray's cancellation is only met between two calls
            except subprocess.TimeoutExpired:
                continue
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                process.wait()
                raise
