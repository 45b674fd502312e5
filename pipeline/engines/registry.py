"""Registry of the engines, by the names that the option `--engine` accepts."""

from typing import Literal

from pipeline.engines import processes, ray, slurm
from pipeline.engines.command import Engine

EngineName = Literal["processes", "ray", "slurm"]
LOCAL_ENGINE: EngineName = "processes"
ENGINES: dict[EngineName, Engine] = {LOCAL_ENGINE: processes, "ray": ray, "slurm": slurm}
