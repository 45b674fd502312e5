"""Engines: run these commands somewhere. What the commands are, no engine knows."""

from collections.abc import Sequence
from typing import Literal, Protocol

from pipeline.engines import processes, ray, slurm
from pipeline.engines.command import Command, OnEnd, ignore_end

__all__ = ["ENGINES", "LOCAL_ENGINE", "Command", "Engine", "EngineName", "OnEnd"]


class Engine(Protocol):
    """Somewhere to run commands. Any other machine must see the project's folder under the same path."""

    def run(
        self, commands: Sequence[Command], *, workers: int | None, gpus: float | None, on_end: OnEnd = ignore_end
    ) -> list[int]:
        """Run the commands in the project's folder, each in its environment; their exit codes, in order (negative: the
        signal that killed it). Ctrl-C is passed on, waited for, and raised again, and so is what `on_end` raises; no
        command outlives the call.

        Args:
            workers: how many run at once. None: as many as there is room for.
            gpus: how many GPUs, or what share of one, each takes. None: one where there are any. Where there are none,
                none is taken.
            on_end: called as soon as a command has ended, in the thread that called, while others still run.
        """


EngineName = Literal["processes", "ray", "slurm"]
LOCAL_ENGINE: EngineName = "processes"
ENGINES: dict[EngineName, Engine] = {LOCAL_ENGINE: processes, "ray": ray, "slurm": slurm}
"""By the name that `--engine` takes: a file here is an engine."""
