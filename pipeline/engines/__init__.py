"""Engines: run these commands somewhere. What the commands are, no engine knows."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.engines import processes, ray
from pipeline.engines.command import Command

__all__ = ["ENGINES", "LOCAL", "Command", "Engine"]


class Engine(Protocol):
    """Somewhere to run commands. Any other machine must see the project's folder under the same path."""

    def run(self, commands: Sequence[Command], *, workers: int, gpus: float) -> list[int]:
        """Run the commands in the project's folder, each in its environment, at most `workers` at once; their exit
        codes, in order. Ctrl-C is passed on, waited for, and raised again; no command outlives the call.

        Args:
            gpus: how much of a GPU each takes, where somebody counts them.
        """


LOCAL = "processes"
ENGINES: dict[str, Engine] = {LOCAL: processes, "ray": ray}
"""By the name that `--engine` takes: a file here is an engine."""
