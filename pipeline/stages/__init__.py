"""One file per DVC stage: read the inputs, call the functions of lower layers, write the outputs."""

from pathlib import Path

DATA = Path("data")
MODELS = Path("models")
CHECKPOINTS = Path(".checkpoints")
"""Checkpoints of trainings that have not ended. They are no output of a stage, because DVC deletes outputs first."""
REPORTS = Path("reports")
SETTINGS = REPORTS / "settings"
EVALUATION = REPORTS / "evaluation"
TESTED = "evaluation.csv"
"""File in the folder of each ablation below `EVALUATION`."""
ANALYSIS = REPORTS / "analysis"
