"""One short file per DVC stage: read the inputs, call what is below, write the outputs."""

from pathlib import Path

DATA = Path("data")
MODELS = Path("models")
CHECKPOINTS = Path(".checkpoints")
"""Of trainings that have not ended; no output of a stage, because DVC removes those first."""
REPORTS = Path("reports")
EVALUATION = REPORTS / "evaluation"
TESTED = "evaluation.csv"
"""In the folder of each ablation there."""
ANALYSIS = REPORTS / "analysis"
