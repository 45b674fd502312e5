"""The engines, by the names that `--engine` takes."""

from typing import Literal

from pipeline.engines import processes, ray, slurm
from pipeline.engines.command import Engine

EngineName = Literal["processes", "ray", "slurm"]
LOCAL_ENGINE: EngineName = "processes"
ENGINES: dict[EngineName, Engine] = {LOCAL_ENGINE: processes, "ray": ray, "slurm": slurm}
