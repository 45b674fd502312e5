"""The classes of the sections of `params.yaml`, a file each; `experiment.py` reads and checks the whole file."""
# ruff: noqa: F401 (the names that other packages import from here)

from pipeline.params.ablation import Ablation
from pipeline.params.config import parse
from pipeline.params.experiment import (
    PARAMS_FILE,
    Comparison,
    Overrides,
    Params,
    Tracking,
    comparable_quantities,
    round_trip_yaml,
)
from pipeline.params.model import Model, Sublayers
from pipeline.params.search import Search
from pipeline.params.task import Task
from pipeline.params.training import Training
