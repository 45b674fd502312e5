"""Engines run commands somewhere: processes of this machine, Ray, SLURM. An engine does not depend on what the commands
are."""

from pipeline.engines.command import Command, Engine
from pipeline.engines.registry import ENGINES, LOCAL_ENGINE, EngineName

__all__ = ["ENGINES", "LOCAL_ENGINE", "Command", "Engine", "EngineName"]
