"""One short file per DVC stage: read the inputs, call what is below, write the outputs."""

from pathlib import Path

DATA = Path("data")
MODELS = Path("models")
REPORTS = Path("reports")
EVALUATION = REPORTS / "evaluation"
ANALYSIS = REPORTS / "analysis"
