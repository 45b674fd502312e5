"""`params.yaml` as typed values. Each section has a file; `experiment.py` has the whole, and reads it."""

from pipeline.params.config import Config, parse
from pipeline.params.experiment import (
    NAME,
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
    "NAME",
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
