"""The classes of the sections of `params.yaml`, a file each; `experiment.py` reads and checks the whole file."""

from pipeline.params.config import Config, parse
from pipeline.params.experiment import (
    NAME_PATTERN,
    PARAMS_FILE,
    Ablation,
    Comparison,
    Overrides,
    Params,
    Tracking,
    comparable_quantities,
    read,
    round_trip_yaml,
)
from pipeline.params.model import Model, Sublayers
from pipeline.params.search import LayerChoices, Search
from pipeline.params.task import Task
from pipeline.params.training import Training

__all__ = [
    "NAME_PATTERN",
    "PARAMS_FILE",
    "Ablation",
    "Comparison",
    "Config",
    "LayerChoices",
    "Model",
    "Overrides",
    "Params",
    "Search",
    "Sublayers",
    "Task",
    "Tracking",
    "Training",
    "comparable_quantities",
    "parse",
    "read",
    "round_trip_yaml",
]
