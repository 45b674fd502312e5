"""Engines, which run any commands: as processes of this machine, as tasks of Ray, or as jobs of SLURM."""

from pipeline.engines.command import Command, Engine, Limits
from pipeline.engines.registry import ENGINES, LOCAL_ENGINE, EngineName

__all__ = ["ENGINES", "LOCAL_ENGINE", "Command", "Engine", "EngineName", "Limits"]
